//! Starting all nodes, waiting for them, and ending them.

use std::process::Child;
use std::time::Duration;

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use super::END_WAIT;
use super::folder::{DevNode, Folder};
use super::observe;
use super::show::Screen;

/// A cluster on a loaded machine starts in a few seconds; after a minute something is wrong.
const READY_WAIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);
/// How often a foreground `up` looks after its nodes.
const WATCH: Duration = Duration::from_millis(500);

/// Starts all nodes, says who leads, and, unless `detach`, ends them at Ctrl-C.
pub(super) async fn up(folder: &Folder, detach: bool, screen: &Screen) -> Result<(), String> {
    // Before the first child, so that no signal finds them without us.
    let mut signals = Signals::new()?;
    let mut children = Vec::new();
    let begun = Instant::now();
    let outcome = tokio::select! {
        outcome = async {
            for node in &folder.nodes {
                children.push(folder.start(node)?);
            }
            ready(folder, &folder.nodes, &mut children, screen).await
        } => outcome,
        () = signals.next() => Err("interrupted".to_owned()),
    };
    if let Err(error) = outcome {
        end_all(folder, screen).await?;
        return Err(error);
    }
    screen.say(&format!(
        "{} nodes are ready after {:.1} s",
        folder.nodes.len(),
        begun.elapsed().as_secs_f32()
    ));
    screen.say("");
    screen.table(&observe::all(folder).await?);
    screen.suggest(folder, detach);
    if detach {
        return Ok(());
    }
    tokio::select! {
        () = signals.next() => {}
        () = all_ended(folder, children, screen) => {
            screen.say("all nodes have ended");
            return Ok(());
        }
    }
    tokio::select! {
        outcome = end_all(folder, screen) => outcome,
        () = signals.next() => {
            for (_, process) in folder.running()? {
                process.signal(Signal::KILL)?;
            }
            Err("interrupted again: all nodes are killed".to_owned())
        }
    }
}

/// Waits until these nodes are ready, telling what each waits for.
pub(super) async fn ready(
    folder: &Folder,
    nodes: &[DevNode],
    children: &mut [Child],
    screen: &Screen,
) -> Result<(), String> {
    let begun = Instant::now();
    let mut shown = String::new();
    loop {
        for (node, child) in nodes.iter().zip(children.iter_mut()) {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(format!("{} has ended ({status}): {}", node.node_id, last_line(node)));
            }
        }
        let states = futures::future::join_all(nodes.iter().map(observe::readiness)).await;
        let unready: Vec<String> = nodes
            .iter()
            .zip(&states)
            .filter_map(|(node, state)| Some(format!("{} ({})", node.node_id, state.as_ref().err()?)))
            .collect();
        if unready.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > READY_WAIT {
            return Err(format!(
                "not ready after {} s: {}; see {}",
                READY_WAIT.as_secs(),
                unready.join(", "),
                folder.logs().display()
            ));
        }
        let line = format!("waiting for {}", unready.join(", "));
        if line != shown {
            screen.progress(&line);
            shown = line;
        }
        sleep(POLL).await;
    }
}

/// Ends every node that `dev.json` knows, also those that `dev start` has started.
pub(super) async fn end_all(folder: &Folder, screen: &Screen) -> Result<(), String> {
    // All at once: nobody hands leadership to a node that ends a moment later.
    for (_, process) in folder.running()? {
        process.signal(Signal::TERM)?;
    }
    let begun = Instant::now();
    let mut shown = 0;
    loop {
        let running = folder.running()?;
        if running.is_empty() {
            screen.say("all nodes have ended");
            return Ok(());
        }
        if begun.elapsed() > END_WAIT {
            for (node, process) in running {
                process.signal(Signal::KILL)?;
                screen.say(&format!(
                    "{} did not end in {} s and is killed",
                    node.node_id,
                    END_WAIT.as_secs()
                ));
            }
            return Ok(());
        }
        if running.len() != shown {
            shown = running.len();
            screen.progress(&format!("ending; {shown} still run"));
        }
        sleep(POLL).await;
    }
}

/// Reports nodes that end and, when none is left, returns. Restarts nothing: what ended, ended for a reason.
async fn all_ended(folder: &Folder, mut children: Vec<Child>, screen: &Screen) {
    let mut known: Vec<String> = folder.nodes.iter().map(|node| node.node_id.clone()).collect();
    loop {
        sleep(WATCH).await;
        // Children that have ended stay zombies until somebody asks.
        children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        let Ok(running) = folder.running() else { continue };
        let now: Vec<String> = running.into_iter().map(|(node, _)| node.node_id).collect();
        for node in
            folder.nodes.iter().filter(|node| known.contains(&node.node_id) && !now.contains(&node.node_id))
        {
            let start = screen.dev(&format!("start {}", node.number));
            screen.say(&format!("{} has ended; start it again with {start}", node.node_id));
        }
        for name in now.iter().filter(|name| !known.contains(name)) {
            screen.say(&format!("{name} runs again"));
        }
        if now.is_empty() {
            return;
        }
        known = now;
    }
}

/// What a node said last, for the error line.
fn last_line(node: &DevNode) -> String {
    let text = std::fs::read(&node.log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(16 << 10)..]).into_owned();
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no word in its log");
    format!("{} (log: {})", line.trim_start_matches("error: "), node.log.display())
}

struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self, String> {
        let listen = |kind| signal(kind).map_err(|error| format!("cannot listen for signals: {error}"));
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
