//! The values schema of the chart registry-cluster: the fields of the CRD, each of which may be null.

use serde_json::{Map, Value, json};

/// What JSON Schema and the CRD say alike.
const KEPT: [&str; 9] = [
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "maxProperties",
    "enum",
];

/// The schema file, from the schema of `spec` in the CRD.
pub(super) fn of_cluster(spec: &Value) -> String {
    let mut schema = nullable(spec);
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema["title"] = json!("Values of registry-cluster");
    schema["type"] = json!("object");
    let own = [
        ("global", json!({ "type": "object" })),
        (
            "name",
            json!({ "type": ["string", "null"], "maxLength": 40, "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$" }),
        ),
        ("labels", json!({ "type": "object", "additionalProperties": { "type": "string" } })),
        ("annotations", json!({ "type": "object", "additionalProperties": { "type": "string" } })),
        (
            "test",
            json!({ "type": "object", "additionalProperties": false, "properties": { "image": { "type": ["string", "null"], "minLength": 1 } } }),
        ),
    ];
    for (name, value) in own {
        let before = schema["properties"].as_object_mut().expect("a map").insert(name.to_owned(), value);
        assert!(before.is_none(), "{name} is a field of the CRD and a value of the chart");
    }
    // Every number of nodes that the CRD's rule lets through, so that helm says it before the API server.
    schema["properties"]["replicas"] = json!({ "enum": [1, 3, 5, 7, null] });
    format!("{:#}\n", schema)
}

/// A field may be null, which the chart does not render.
fn nullable(schema: &Value) -> Value {
    let mut strict = strict(schema);
    if let Some(kind) = strict.get("type").and_then(Value::as_str) {
        strict["type"] = json!([kind, "null"]);
    }
    if let Some(values) = strict.get_mut("enum").and_then(Value::as_array_mut)
        && !values.contains(&Value::Null)
    {
        values.push(Value::Null);
    }
    strict
}

/// A schema of the CRD without what only Kubernetes knows, and closed to unknown fields.
fn strict(schema: &Value) -> Value {
    if schema["x-kubernetes-int-or-string"] == true {
        return json!({ "type": ["integer", "number", "string"] });
    }
    let mut strict = Map::new();
    if let Some(kind) = schema.get("type") {
        strict.insert("type".to_owned(), kind.clone());
    }
    for name in KEPT {
        if let Some(value) = schema.get(name) {
            strict.insert(name.to_owned(), value.clone());
        }
    }
    if let Some(items) = schema.get("items") {
        strict.insert("items".to_owned(), self::strict(items));
        // What stands in a list is rendered as it is: its required fields must be there.
        if let Some(required) = items.get("required") {
            strict["items"]["required"] = required.clone();
        }
    }
    if let Some(properties) = schema["properties"].as_object() {
        let fields = properties.iter().map(|(name, field)| (name.clone(), nullable(field))).collect();
        strict.insert("properties".to_owned(), Value::Object(fields));
        strict.insert("additionalProperties".to_owned(), json!(false));
    } else if let Some(values) = schema.get("additionalProperties") {
        strict.insert("additionalProperties".to_owned(), self::strict(values));
    }
    Value::Object(strict)
}
