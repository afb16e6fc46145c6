//! An API server in memory: objects with resourceVersion, UID and generation, lists, watches, apply, merge,
//! and deletion with preconditions. It knows no schema; apply merges maps and replaces lists.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::broadcast;

/// Where an object is: `pods`, `default`, `demo-0`.
pub(crate) type Key = (String, String, String);

#[derive(Clone)]
pub(crate) struct FakeApi {
    objects: Arc<Mutex<Objects>>,
    changes: broadcast::Sender<Change>,
}

#[derive(Default)]
struct Objects {
    by_key: BTreeMap<Key, Value>,
    version: u64,
    requests: Vec<String>,
    refusals: Vec<(String, u16)>,
    history: Vec<Change>,
}

#[derive(Clone, Debug)]
struct Change {
    version: u64,
    resource: String,
    type_: &'static str,
    object: Value,
}

/// What a path says.
struct Target {
    resource: String,
    namespace: String,
    name: Option<String>,
    subresource: Option<String>,
}

impl FakeApi {
    pub(crate) fn new() -> Self {
        Self { objects: Arc::default(), changes: broadcast::channel(4096).0 }
    }

    pub(crate) fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, std::convert::Infallible>(api.answer(request).await) }
        });
        Client::new(service, "operators")
    }

    /// Requests that changed or read something since the last call, such as `PATCH pods demo-0`; not watches.
    pub(crate) fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.objects.lock().unwrap().requests)
    }

    /// Refuses the next request that begins so, such as `PATCH configmaps`.
    pub(crate) fn refuse_next(&self, request: &str, code: u16) {
        self.objects.lock().unwrap().refusals.push((request.to_owned(), code));
    }

    pub(crate) fn get(&self, resource: &str, name: &str) -> Option<Value> {
        let objects = self.objects.lock().unwrap();
        let found = objects.by_key.iter().find(|((kind, _, own), _)| kind == resource && own == name);
        found.map(|(_, object)| object.clone())
    }

    pub(crate) fn all(&self, resource: &str) -> Vec<Value> {
        let objects = self.objects.lock().unwrap();
        let of_kind = objects.by_key.iter().filter(|((kind, _, _), _)| kind == resource);
        of_kind.map(|(_, object)| object.clone()).collect()
    }

    /// Creates or replaces an object, as somebody else would.
    pub(crate) fn put(&self, resource: &str, object: Value) -> Value {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        self.store((resource.to_owned(), namespace, name), object)
    }

    /// Changes an object, as somebody else would.
    pub(crate) fn modify(&self, resource: &str, name: &str, change: impl FnOnce(&mut Value)) {
        let mut object = self.get(resource, name).unwrap();
        change(&mut object);
        self.put(resource, object);
    }

    pub(crate) fn remove(&self, resource: &str, name: &str) {
        let mut objects = self.objects.lock().unwrap();
        let key = objects.by_key.keys().find(|(kind, _, own)| kind == resource && own == name).cloned();
        let Some(key) = key else { return };
        let object = objects.by_key.remove(&key).unwrap();
        objects.version += 1;
        self.tell(&mut objects, &key.0, "DELETED", object);
    }

    fn tell(&self, objects: &mut Objects, resource: &str, type_: &'static str, object: Value) {
        let change = Change { version: objects.version, resource: resource.to_owned(), type_, object };
        objects.history.push(change.clone());
        // Nobody watches yet: the history tells them.
        let _ = self.changes.send(change);
    }

    fn store(&self, key: Key, mut object: Value) -> Value {
        let mut objects = self.objects.lock().unwrap();
        let before = objects.by_key.get(&key).cloned();
        let same = |one: &Value, other: &Value| {
            let strip = |value: &Value| {
                let mut value = value.clone();
                value["metadata"].as_object_mut().unwrap().remove("resourceVersion");
                value
            };
            strip(one) == strip(other)
        };
        if let Some(before) = before.as_ref().filter(|before| same(before, &object)) {
            return before.clone();
        }
        objects.version += 1;
        let version = objects.version;
        let meta = object["metadata"].as_object_mut().unwrap();
        meta.insert("resourceVersion".into(), json!(version.to_string()));
        if !meta.contains_key("uid") {
            meta.insert("uid".into(), json!(format!("uid-{version}")));
            meta.insert("creationTimestamp".into(), json!("2026-01-01T00:00:00Z"));
        }
        let old = before.as_ref().map(|before| (&before["spec"], before["metadata"]["generation"].as_u64()));
        let generation = match old {
            Some((spec, Some(generation))) if *spec == object["spec"] => generation,
            Some((_, generation)) => generation.unwrap_or_default() + 1,
            None => 1,
        };
        if object.get("spec").is_some() && key.0 != "pods" && key.0 != "services" {
            object["metadata"]["generation"] = json!(generation);
        }
        let type_ = if before.is_some() { "MODIFIED" } else { "ADDED" };
        objects.by_key.insert(key.clone(), object.clone());
        self.tell(&mut objects, &key.0, type_, object.clone());
        object
    }

    async fn answer(&self, request: Request<Body>) -> Response<axum::body::Body> {
        let (parts, body) = request.into_parts();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let target = Target::of(parts.uri.path());
        let body = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        if query.contains("watch=true") {
            return self.watch(&target, &query);
        }
        let verb = if query.contains("dryRun=All") { "TRY" } else { parts.method.as_str() };
        let words = [verb, &target.resource, target.name.as_deref().unwrap_or_default()];
        let mut line = words.join(" ");
        line.push_str(&target.subresource.iter().map(|it| format!("/{it}")).collect::<String>());
        {
            let mut objects = self.objects.lock().unwrap();
            objects.requests.push(line.clone());
            let refusal = objects.refusals.iter().position(|(prefix, _)| line.starts_with(prefix.as_str()));
            if let Some(at) = refusal {
                let (_, code) = objects.refusals.remove(at);
                return failure(code, "refused by the test");
            }
        }
        match parts.method {
            Method::GET if target.name.is_none() => self.list(&target),
            Method::GET => self.found(&target).map_or_else(not_found, |object| success(&object)),
            Method::POST => self.create(&target, body),
            Method::PATCH => self.patch(&target, &query, body),
            Method::PUT => self.replace(&target, body),
            Method::DELETE => self.delete(&target, &body),
            _ => failure(405, "not known here"),
        }
    }

    fn key(target: &Target) -> Key {
        (target.resource.clone(), target.namespace.clone(), target.name.clone().unwrap_or_default())
    }

    fn found(&self, target: &Target) -> Option<Value> {
        self.objects.lock().unwrap().by_key.get(&Self::key(target)).cloned()
    }

    fn list(&self, target: &Target) -> Response<axum::body::Body> {
        let version = self.objects.lock().unwrap().version;
        success(&json!({
            "apiVersion": "v1",
            "kind": "List",
            "metadata": { "resourceVersion": version.to_string() },
            "items": self.all(&target.resource),
        }))
    }

    fn watch(&self, target: &Target, query: &str) -> Response<axum::body::Body> {
        let since = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion="));
        let since: u64 = since.and_then(|version| version.parse().ok()).unwrap_or_default();
        let resource = target.resource.clone();
        let objects = self.objects.lock().unwrap();
        let missed: Vec<Change> =
            objects.history.iter().filter(|change| change.version > since).cloned().collect();
        let changes = tokio_stream::wrappers::BroadcastStream::new(self.changes.subscribe());
        drop(objects);
        let changes = futures::stream::iter(missed).chain(changes.map(Result::unwrap));
        let lines = changes.filter_map(move |change| {
            let line = (change.resource == resource).then(|| {
                Ok::<_, std::io::Error>(format!(
                    "{}\n",
                    json!({ "type": change.type_, "object": change.object })
                ))
            });
            std::future::ready(line)
        });
        Response::new(axum::body::Body::from_stream(lines))
    }

    fn create(&self, target: &Target, mut object: Value) -> Response<axum::body::Body> {
        object["metadata"]["namespace"] = json!(target.namespace);
        let name = object["metadata"]["name"].as_str().unwrap_or("generated").to_owned();
        let key = (target.resource.clone(), target.namespace.clone(), name);
        if self.objects.lock().unwrap().by_key.contains_key(&key) {
            return failure(409, "already exists");
        }
        success(&self.store(key, object))
    }

    fn patch(&self, target: &Target, query: &str, patch: Value) -> Response<axum::body::Body> {
        let applies = query.contains("force=true");
        let before = self.found(target);
        let status_alone = target.subresource.as_deref() == Some("status");
        if before.is_none() && (!applies || status_alone) {
            return not_found();
        }
        let uid = &patch["metadata"]["uid"];
        let unchanged = before.clone();
        let mut object = before.unwrap_or_else(|| json!({ "metadata": { "namespace": target.namespace } }));
        if !uid.is_null() && object["metadata"]["uid"] != *uid {
            return failure(409, "another UID");
        }
        if status_alone {
            object["status"] = patch["status"].clone();
        } else {
            merge(&mut object, &patch);
        }
        // As a real one: who applies what is there already changes nothing, not even the version.
        if query.contains("dryRun=All") || unchanged.as_ref() == Some(&object) {
            return success(&object);
        }
        success(&self.store(Self::key(target), object))
    }

    fn replace(&self, target: &Target, object: Value) -> Response<axum::body::Body> {
        let Some(before) = self.found(target) else { return not_found() };
        if before["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] {
            return failure(409, "the object has been modified");
        }
        success(&self.store(Self::key(target), object))
    }

    fn delete(&self, target: &Target, options: &Value) -> Response<axum::body::Body> {
        let Some(object) = self.found(target) else { return not_found() };
        let uid = &options["preconditions"]["uid"];
        if !uid.is_null() && object["metadata"]["uid"] != *uid {
            return failure(409, "another UID");
        }
        self.remove(&target.resource, target.name.as_deref().unwrap());
        success(&object)
    }
}

impl Target {
    /// `/api/v1/…` or `/apis/GROUP/VERSION/…`, with or without a namespace.
    fn of(path: &str) -> Self {
        let mut words = path.trim_matches('/').split('/');
        match words.next() {
            Some("api") => drop(words.next()),
            _ => drop((words.next(), words.next())),
        }
        let mut next = words.next().unwrap().to_owned();
        let mut namespace = String::new();
        if next == "namespaces" {
            namespace = words.next().unwrap().to_owned();
            next = words.next().unwrap().to_owned();
        }
        let (name, subresource) = (words.next(), words.next());
        Self {
            resource: next,
            namespace,
            name: name.map(str::to_owned),
            subresource: subresource.map(str::to_owned),
        }
    }
}

/// As apply does with maps; what is null is taken away.
fn merge(object: &mut Value, patch: &Value) {
    match (object, patch) {
        (Value::Object(object), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    object.remove(key);
                } else {
                    merge(object.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (object, patch) => *object = patch.clone(),
    }
}

fn success(object: &Value) -> Response<axum::body::Body> {
    Response::new(axum::body::Body::from(object.to_string()))
}

fn not_found() -> Response<axum::body::Body> {
    failure(404, "not found")
}

fn failure(code: u16, message: &str) -> Response<axum::body::Body> {
    // Clients tell failures apart by the reason, not by the code.
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        422 => "Invalid",
        _ => "InternalError",
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {},
        "status": "Failure", "reason": reason, "message": message, "code": code,
    });
    let mut response = success(&status);
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}
