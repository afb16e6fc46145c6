//! The default configuration as a commented file.

use std::fmt::Write as _;

use super::keys::{KEYS, Kind, show};

const NODES: &str = r#"# Configuration of a registry cluster. The same file serves all its nodes:
#   registry serve --config FILE --node NODE_ID
# Every setting below can be left out; the value shown is the default. An environment variable with the
# name given wins over the file, a flag over both. JSON is accepted as well.

cluster:
  nodes:
    - {node_id: registry-node-1, host: 127.0.0.1, client_port: 8080, raft_port: 9080}
    - {node_id: registry-node-2, host: 127.0.0.1, client_port: 8081, raft_port: 9081}
    - {node_id: registry-node-3, host: 127.0.0.1, client_port: 8082, raft_port: 9082}
"#;

const FOUNDING: &str =
    "\n# Read once, when the cluster is founded; then it is replicated and kept by the cluster.\n";

/// A file with all settings, their defaults, bounds, meaning and environment variables.
pub fn print_default() -> String {
    let mut text = NODES.to_owned();
    let mut open: Vec<&str> = Vec::new();
    for key in KEYS {
        let mut parts: Vec<&str> = key.path.split('.').collect();
        let name = parts.pop().unwrap_or(key.path);
        let kept = open.iter().zip(&parts).take_while(|(open, part)| open == part).count();
        if open.first() != parts.first() {
            text.push_str(if parts.first() == Some(&"cluster_settings") { FOUNDING } else { "\n" });
        }
        for (depth, part) in parts.iter().enumerate().skip(kept) {
            let _ = writeln!(text, "{}{part}:", "  ".repeat(depth));
        }
        let indent = "  ".repeat(parts.len());
        let _ = writeln!(text, "{indent}# {}{} {}", key.help, range(key.kind), key.variable());
        if key.default.is_empty() {
            let _ = writeln!(text, "{indent}# {name}:");
        } else {
            let _ = writeln!(text, "{indent}{name}: {}", key.default);
        }
        open = parts;
    }
    text
}

fn range(kind: Kind) -> String {
    match kind {
        Kind::Time { min, max } | Kind::Size { min, max } | Kind::Count { min, max } => {
            format!(" {} to {}.", show(kind, min), show(kind, max))
        }
        Kind::Choice(words) => format!(" One of {}.", words.join(", ")),
        Kind::Switch | Kind::Text => String::new(),
    }
}
