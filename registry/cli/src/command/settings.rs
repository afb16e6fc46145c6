//! `settings get|set`

use registry_proto::internal as api;

use crate::admin::settings::{Problem, apply, select};
use crate::admin::{Admin, Effect};
use crate::args::Global;
use crate::args::admin::{Access, SetSettings, Settings, SettingsCommand};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::Screen;
use crate::output::view::{SettingsChange, SettingsView};

const CHANGE: &str = "change the settings";

/// Does what was typed.
pub(super) async fn settings(args: &Settings, global: &Global, screen: &Screen) -> Result<Exit, Error> {
    match &args.command {
        SettingsCommand::Get { keys, access } => get(keys, access, global, screen).await,
        SettingsCommand::Set(args) => set(args, global, screen).await,
    }
}

async fn get(
    beginnings: &[String],
    access: &Access,
    global: &Global,
    screen: &Screen,
) -> Result<Exit, Error> {
    let action = "read the settings";
    let keys = select(beginnings).map_err(|problems| wrong(action, problems))?;
    let mut admin = Admin::open(access, global, screen).await?;
    let answer = read(&mut admin, action).await?;
    screen.show(&SettingsView { answer, keys })?;
    Ok(Exit::Success)
}

async fn set(args: &SetSettings, global: &Global, screen: &Screen) -> Result<Exit, Error> {
    // What is wrong by itself is told before anybody is asked.
    apply(&api::ClusterSettings::default(), &args.changes).map_err(|problems| wrong(CHANGE, problems))?;
    let mut admin = Admin::open(&args.access, global, screen).await?;
    let before = read(&mut admin, CHANGE).await?.settings.unwrap_or_default();
    if args.expected_version.is_some_and(|expected| expected != before.version) {
        let message = format!("they have version {}", before.version);
        return Err(Error::new(Exit::Refused, CHANGE, message, "look with `settings get`, then again"));
    }
    let wanted = apply(&before, &args.changes).map_err(|problems| wrong(CHANGE, problems))?;
    let request = api::UpdateSettingsRequest { expected_version: before.version, settings: Some(wanted) };
    let _progress = screen.progress("changing the settings");
    let answer =
        admin.call(CHANGE, Effect::Changes, request, async |client, call| client.update_settings(call).await);
    screen.show(&SettingsChange { before, answer: answer.await? })?;
    Ok(Exit::Success)
}

/// As the leader has applied them: any other node may be behind.
async fn read(admin: &mut Admin, action: &str) -> Result<api::GetSettingsResponse, Error> {
    let request = api::GetSettingsRequest {};
    admin.call(action, Effect::Reads, request, async |client, call| client.get_settings(call).await).await
}

/// Everything that is wrong with what was typed, in one line.
fn wrong(action: &str, problems: Vec<Problem>) -> Error {
    let words: Vec<String> = problems.iter().map(|(key, problem)| format!("{key}: {problem}")).collect();
    let mut report = Error::new(Exit::Usage, action, words.join(", "), "nothing was changed").into_report();
    report.fields = problems.into_iter().collect();
    Error::reported(report)
}
