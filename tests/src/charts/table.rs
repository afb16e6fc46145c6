//! The table of values in a chart's README, made from the comments in `values.yaml`.

use serde_json::Value;

use super::documents;

const BEGIN: &str = "<!-- values: written by manifests/render -->";
const END: &str = "<!-- end of values -->";

/// A row for each value that has a comment `# -- …` above it: its path, its default, the comment.
pub(super) fn of_values(text: &str) -> String {
    let values = documents(text).into_iter().next().unwrap_or_default();
    let mut table = String::from("| Value | Default | Meaning |\n|---|---|---|\n");
    let mut path: Vec<(usize, &str)> = Vec::new();
    let mut comment = String::new();
    for line in text.lines() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        if let Some(begin) = code.strip_prefix("# -- ") {
            comment = begin.to_owned();
        } else if let Some(more) = code.strip_prefix("# ").filter(|_| !comment.is_empty()) {
            comment.extend([" ", more]);
        } else if let Some((key, _)) = code.split_once(':').filter(|_| !code.starts_with(['#', '-'])) {
            path.retain(|(depth, _)| *depth < indent);
            path.push((indent, key));
            if !comment.is_empty() {
                let names: Vec<&str> = path.iter().map(|(_, key)| *key).collect();
                let default = values.pointer(&format!("/{}", names.join("/"))).unwrap_or(&Value::Null);
                table.push_str(&format!("| `{}` | `{default}` | {comment} |\n", names.join(".")));
                comment.clear();
            }
        }
    }
    table
}

/// The README with this table between its marks.
pub(super) fn replace(readme: &str, table: &str) -> String {
    let (head, rest) = readme.split_once(BEGIN).expect("the README has a place for the table of values");
    let (_, tail) = rest.split_once(END).expect("the place for the table ends");
    format!("{head}{BEGIN}\n{table}{END}{tail}")
}

#[cfg(test)]
mod tests {
    use super::{of_values, replace};

    #[test]
    fn a_value_is_told_with_its_path_its_default_and_its_comment() {
        let values = "a:\n  # -- First\n  # line.\n  b: 1\nc:\n  d:\n    # -- Deep.\n    e: {}\n# -- Top.\nf: \"\"\n# no\ng: 2\n";
        let rows = "| `a.b` | `1` | First line. |\n| `c.d.e` | `{}` | Deep. |\n| `f` | `\"\"` | Top. |\n";
        assert!(of_values(values).ends_with(rows), "{}", of_values(values));
    }

    #[test]
    fn the_table_takes_the_place_of_the_one_before() {
        let readme = replace(
            "# A\n\n<!-- values: written by manifests/render -->\nold\n<!-- end of values -->\nend\n",
            "new\n",
        );
        let again = replace(&readme, "newer\n");
        assert_eq!(
            again,
            "# A\n\n<!-- values: written by manifests/render -->\nnewer\n<!-- end of values -->\nend\n"
        );
    }
}
