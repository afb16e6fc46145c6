//! `completion`

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::Cli;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::Screen;

/// Prints the completion script of `shell`.
pub(crate) fn completion(shell: Shell, program_name: &'static str, screen: &Screen) -> Result<Exit, Error> {
    screen.write(&String::from_utf8_lossy(&script(shell, program_name)))?;
    Ok(Exit::Success)
}

/// The script. Where the commands are part of another program ("registry ctl") it completes them there.
fn script(shell: Shell, program_name: &'static str) -> Vec<u8> {
    let mut names = program_name.split_whitespace().rev();
    let innermost = names.next().unwrap_or("registryctl");
    // Completion is for whole lines, which begin with the name of the program.
    let mut command = Cli::command().name(innermost).no_binary_name(false);
    for outer in names {
        command = clap::Command::new(outer).subcommand(command);
    }
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    script
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn every_shell_gets_a_script_that_knows_commands_and_flags() {
        for shell in Shell::value_variants() {
            for program in ["registryctl", "registry ctl"] {
                let script = String::from_utf8(script(*shell, program)).unwrap();
                for word in ["deregister", "discover", "max-staleness", "endpoints"] {
                    assert!(script.contains(word), "{shell} script of {program} lacks {word}");
                }
            }
        }
    }

    #[test]
    fn the_script_is_for_the_program_that_was_called() {
        let own = String::from_utf8(script(Shell::Bash, "registryctl")).unwrap();
        assert!(own.contains("complete -F _registryctl"), "{own}");
        let part = String::from_utf8(script(Shell::Bash, "registry ctl")).unwrap();
        assert!(part.contains("complete -F _registry ") && part.contains("registry__subcmd__ctl"), "{part}");
    }
}
