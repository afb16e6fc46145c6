//! `member list|add|remove|promote|transfer-leader`

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use registry_proto::internal as api;
use tokio::time::{Duration, Instant, sleep};

use super::run::signals::Signals;
use crate::admin::members::{Phase, removal, resolve};
use crate::admin::{Admin, Effect};
use crate::args::Global;
use crate::args::admin::{Access, Add, Member, MemberCommand, Promote, Remove, TransferLeader};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::Screen;
use crate::output::view::{Joined, Leads, View as _};

/// How often a node that was added is looked after.
const POLL: Duration = Duration::from_millis(500);

/// Time after which a number that has changed is told again.
const TELL_AGAIN: Duration = Duration::from_secs(2);

/// The longest hand-over that the registry accepts.
const TRANSFER_MAX: Duration = Duration::from_secs(60);

/// Does what was typed.
pub(super) async fn member(args: &Member, global: &Global, screen: &Screen) -> Result<Exit, Error> {
    match &args.command {
        MemberCommand::List(access) => list(access, global, screen).await,
        MemberCommand::Add(args) => add(args, global, screen).await,
        MemberCommand::Remove(args) => remove(args, global, screen).await,
        MemberCommand::Promote(args) => promote(args, global, screen).await,
        MemberCommand::TransferLeader(args) => transfer(args, global, screen).await,
    }
}

async fn list(access: &Access, global: &Global, screen: &Screen) -> Result<Exit, Error> {
    let mut admin = Admin::open(access, global, screen).await?;
    screen.show(&admin.status("list the members").await?)?;
    Ok(Exit::Success)
}

/// From the first call on Ctrl-C ends only this command: the leader goes on with what it has begun.
async fn add(args: &Add, global: &Global, screen: &Screen) -> Result<Exit, Error> {
    let mut signals = Signals::new()?;
    tokio::select! {
        outcome = admit(args, global, screen) => outcome,
        _ = signals.next() => {
            Err(Error::new(Exit::Unknown, format!("follow {}", args.name), "interrupted", GOES_ON))
        }
    }
}

async fn admit(args: &Add, global: &Global, screen: &Screen) -> Result<Exit, Error> {
    let action = format!("add {}", args.name);
    let mut admin = Admin::open(&args.access, global, screen).await?;
    let seen = admin.status(&action).await?;
    let request = api::AdmitMemberRequest {
        peer_endpoint: args.endpoint.clone(),
        node_id: args.name.clone(),
        expected_membership: log_id(&seen),
        owner: api::MembershipOwner::Unspecified.into(),
    };
    let progress = screen.progress(format!("admitting {}", args.name));
    let answer = admin
        .call(&action, Effect::Changes, request, async |client, call| client.admit_member(call).await)
        .await?;
    drop(progress);
    if args.wait.is_zero() {
        screen.show(&answer)?;
        return Ok(Exit::Success);
    }
    let raft_id = answer.identity.as_ref().map_or(0, |identity| identity.raft_id);
    screen.remark(&format!("{} is admitted with id {raft_id}", args.name));
    screen.show(&follow(&mut admin, args, raft_id, screen).await?)?;
    Ok(Exit::Success)
}

const GOES_ON: &str = "what has begun goes on without this command: see `member list`";

/// Tells how a node becomes a member, until nothing more happens by itself or `--wait` is over. A leader
/// that is away meanwhile is waited for.
async fn follow(admin: &mut Admin, args: &Add, raft_id: u64, screen: &Screen) -> Result<Joined, Error> {
    let action = format!("follow {}", args.name);
    let deadline = Instant::now() + args.wait;
    let mut told = Phase::Admitted;
    let mut told_at = Instant::now();
    loop {
        let status = admin.status(&action).await;
        let late = Instant::now() > deadline;
        let status = match status {
            Ok(status) => status,
            Err(error) if late || !matches!(error.exit, Exit::Unavailable | Exit::Timeout) => {
                return Err(error);
            }
            Err(_) => {
                sleep(POLL).await;
                continue;
            }
        };
        let phase = match Phase::of(&status, raft_id) {
            Phase::Snapshot { .. } => Phase::Snapshot { percent: admin.snapshot_percent(raft_id).await },
            other => other,
        };
        if phase == Phase::Gone {
            let message = format!("{} was given up: {}", args.name, status.membership_trouble);
            return Err(Error::new(Exit::Refused, action, message, "look at its log, then add it again"));
        }
        if phase.is_final() {
            return Ok(Joined { status, raft_id });
        }
        if !phase.is_like(&told) || (phase != told && told_at.elapsed() > TELL_AGAIN) {
            screen.remark(&format!("{} {}", args.name, phase.words()));
            told = phase;
            told_at = Instant::now();
        }
        if late {
            let message = format!("after {} s it {}", args.wait.as_secs(), told.words());
            return Err(Error::new(Exit::Timeout, action, message, GOES_ON));
        }
        sleep(POLL).await;
    }
}

async fn remove(args: &Remove, global: &Global, screen: &Screen) -> Result<Exit, Error> {
    let action = format!("remove {}", args.members.join(", "));
    let mut admin = Admin::open(&args.access, global, screen).await?;
    let seen = admin.status(&action).await?;
    let raft_ids = ids(&action, &seen, &args.members)?;
    for line in removal(&seen, &raft_ids) {
        screen.remark(&line);
    }
    if !args.yes {
        confirm(&action)?;
    }
    let request = api::RemoveMemberRequest {
        raft_ids,
        expected_membership: log_id(&seen),
        owner: api::MembershipOwner::Unspecified.into(),
    };
    let _progress = screen.progress("removing");
    let answer =
        admin.call(&action, Effect::Changes, request, async |client, call| client.remove_member(call).await);
    screen.show(&answer.await?)?;
    Ok(Exit::Success)
}

async fn promote(args: &Promote, global: &Global, screen: &Screen) -> Result<Exit, Error> {
    let action = format!("promote {}", args.members.join(", "));
    let mut admin = Admin::open(&args.access, global, screen).await?;
    let seen = admin.status(&action).await?;
    let all: Vec<String> = args.members.iter().chain(&args.replacing).cloned().collect();
    // Once for both lists, so that all that is wrong is told.
    ids(&action, &seen, &all)?;
    let request = api::PromoteMemberRequest {
        raft_ids: ids(&action, &seen, &args.members)?,
        expected_membership: log_id(&seen),
        max_lag_entries: args.max_lag.unwrap_or_default(),
        replaced_raft_ids: ids(&action, &seen, &args.replacing)?,
        owner: api::MembershipOwner::Unspecified.into(),
    };
    let _progress = screen.progress("changing the voters");
    let answer =
        admin.call(&action, Effect::Changes, request, async |client, call| client.promote_member(call).await);
    screen.show(&answer.await?)?;
    Ok(Exit::Success)
}

async fn transfer(args: &TransferLeader, global: &Global, screen: &Screen) -> Result<Exit, Error> {
    let action = match &args.member {
        Some(member) => format!("hand leadership to {member}"),
        None => "hand leadership over".to_owned(),
    };
    let mut admin = Admin::open(&args.access, global, screen).await?;
    let seen = admin.status(&action).await?;
    let wanted: Vec<String> = args.member.iter().cloned().collect();
    let raft_id = ids(&action, &seen, &wanted)?.first().copied().unwrap_or_default();
    let request = api::TransferLeadershipRequest {
        raft_id,
        // A little less than we wait ourselves, so that the outcome is told; the registry takes 60 s at most.
        timeout: prost_types::Duration::try_from(global.timeout.mul_f64(0.9).min(TRANSFER_MAX)).ok(),
        expected_membership: log_id(&seen),
    };
    let _progress = screen.progress("handing over");
    let answer = admin
        .call(&action, Effect::Changes, request, async |client, call| client.transfer_leadership(call).await);
    let answer = answer.await?;
    let leads = Leads { answer, members: seen.members };
    // An election may have come between.
    if raft_id != 0 && answer.leader_raft_id != raft_id {
        let message = format!("{} leads now", leads.names().join(", "));
        return Err(Error::new(Exit::Refused, action, message, "try again"));
    }
    screen.show(&leads)?;
    Ok(Exit::Success)
}

/// The membership that was seen, for compare and set.
fn log_id(seen: &api::StatusResponse) -> Option<api::LogId> {
    seen.membership.as_ref().and_then(|membership| membership.log_id)
}

fn ids(action: &str, seen: &api::StatusResponse, given: &[String]) -> Result<Vec<u64>, Error> {
    resolve(&seen.members, given).map_err(|problems| {
        Error::new(Exit::NotFound, action, problems.join("; "), "`member list` shows names and ids")
    })
}

/// Asks on the terminal; without one somebody must have said `--yes`.
fn confirm(action: &str) -> Result<(), Error> {
    let refused = |message: &str| Error::new(Exit::Usage, action, message, "nothing was changed");
    if !std::io::stdin().is_terminal() {
        return Err(refused("this is to be confirmed: give --yes"));
    }
    let mut answer = String::new();
    let asked = write!(std::io::stderr().lock(), "go on? [y/N] ")
        .and_then(|()| std::io::stdin().lock().read_line(&mut answer));
    match asked {
        Ok(_) if matches!(answer.trim(), "y" | "Y" | "yes") => Ok(()),
        Ok(_) => Err(refused("not confirmed")),
        Err(error) => Err(refused(&error.to_string())),
    }
}
