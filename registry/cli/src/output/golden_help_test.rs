//! The help, compared with files in `tests/golden` as in `golden_test`.

use super::golden_test::check;
use crate::args::Cli;

#[test]
fn the_help_is_as_documented() {
    for name in [
        "",
        "register",
        "heartbeat",
        "deregister",
        "services",
        "discover",
        "watch",
        "status",
        "members",
        "drain",
        "state",
        "override set",
        "override clear",
        "override list",
        "protection end",
        "run",
        "member",
        "member list",
        "member add",
        "member remove",
        "member promote",
        "member transfer-leader",
        "settings",
        "settings get",
        "settings set",
    ] {
        // The developer's environment is part of the help otherwise.
        let command = Cli::described_as("registryctl").mut_arg("endpoints", |arg| arg.hide_env_values(true));
        let arguments = name.split_whitespace().chain(["--help"]);
        let help = command.try_get_matches_from(arguments).unwrap_err().to_string();
        let name = if name.is_empty() { "registryctl".to_owned() } else { name.replace(' ', "-") };
        check(&format!("help-{name}.txt"), &help);
    }
}
