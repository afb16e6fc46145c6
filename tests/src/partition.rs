//! A network between the nodes that can be cut.
//!
//! Nodes are told to reach each other at addresses of this proxy, which passes bytes on to where they
//! really listen. Bytes from one node to another can be held back, each way by itself, on connections old
//! and new: like a cut cable nothing arrives, nothing is refused, and after healing all goes on. Which
//! node has opened a connection is looked up in `/proc`, so no node has to say it.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Directed links between nodes, by index, over which nothing passes.
type Cuts = HashSet<(usize, usize)>;

/// The network between the nodes of one cluster.
#[derive(Debug)]
pub struct Partition {
    cuts: watch::Sender<Cuts>,
    pids: Pids,
    _listeners: JoinSet<()>,
}

type Pids = Arc<Mutex<Vec<Option<u32>>>>;

impl Partition {
    /// Listens at `(advertised, port)` for each pair of node and port, and passes on to `(real, port)`.
    pub async fn start(advertised: Ipv4Addr, real: Ipv4Addr, ports: &[(usize, u16)], nodes: usize) -> Self {
        let cuts = watch::Sender::new(Cuts::new());
        let pids: Pids = Arc::new(Mutex::new(vec![None; nodes]));
        let mut listeners = JoinSet::new();
        for &(node, port) in ports {
            let listener = TcpListener::bind((advertised, port)).await.expect("the proxy's address is free");
            let link =
                Link { to: node, target: (real, port).into(), cuts: cuts.subscribe(), pids: pids.clone() };
            listeners.spawn(async move {
                let mut connections = JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    connections.spawn(link.clone().serve(stream));
                    while connections.try_join_next().is_some() {}
                }
            });
        }
        Self { cuts, pids, _listeners: listeners }
    }

    /// Tells which process a node is now.
    pub fn set_pid(&self, node: usize, pid: Option<u32>) {
        self.pids.lock().expect("no panic inside")[node] = pid;
    }

    /// Holds back what `from` sends to `to`.
    pub fn cut(&self, from: usize, to: usize) {
        self.cuts.send_modify(|cuts| {
            cuts.insert((from, to));
        });
    }

    /// Holds back everything between `node` and the others.
    pub fn isolate(&self, node: usize) {
        let nodes = self.pids.lock().expect("no panic inside").len();
        for other in (0..nodes).filter(|other| *other != node) {
            self.cut(node, other);
            self.cut(other, node);
        }
    }

    /// Lets everything pass again, what was held back first.
    pub fn heal(&self) {
        self.cuts.send_modify(Cuts::clear);
    }
}

#[derive(Clone)]
struct Link {
    to: usize,
    target: SocketAddr,
    cuts: watch::Receiver<Cuts>,
    pids: Pids,
}

/// Looks for the owner of a connection before it counts as a stranger's, which is never cut. One look can
/// miss it: the kernel's table of sockets is read in pieces while it changes.
const LOOKS: u32 = 50;

impl Link {
    /// The node that opened the connection; `None` = this test did, or some other program.
    async fn find_owner(&self, stream: &TcpStream) -> Option<usize> {
        // As the opener's socket has them: its own address first, then the proxy's.
        let ends = (stream.peer_addr().ok()?, stream.local_addr().ok()?);
        for _ in 0..LOOKS {
            let mut pids = self.pids.lock().expect("no panic inside").clone();
            let nodes = pids.len();
            pids.push(Some(std::process::id()));
            if let Some(found) = owner(ends, &pids) {
                return (found < nodes).then_some(found);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        None
    }

    async fn serve(self, client: TcpStream) {
        let from = self.find_owner(&client).await;
        let Ok(server) = TcpStream::connect(self.target).await else { return };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (client_read, client_write) = client.into_split();
        let (server_read, server_write) = server.into_split();
        let there = from.map(|from| (from, self.to));
        let back = from.map(|from| (self.to, from));
        tokio::join!(
            pump(client_read, server_write, there, self.cuts.clone()),
            pump(server_read, client_write, back, self.cuts.clone()),
        );
    }
}

/// Passes bytes on while the link is whole; also the end of the stream waits for that.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    link: Option<(usize, usize)>,
    mut cuts: watch::Receiver<Cuts>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        if let Some(link) = link
            && cuts.wait_for(|cuts| !cuts.contains(&link)).await.is_err()
        {
            return;
        }
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            let _ = to.shutdown().await;
            return;
        }
    }
}

/// The two ends of a connection, as the side that opened it has them.
type Ends = (SocketAddr, SocketAddr);

/// The node whose process has the socket with these ends.
fn owner(ends: Ends, pids: &[Option<u32>]) -> Option<usize> {
    let inode = socket_inode(ends)?;
    let wanted = format!("socket:[{inode}]");
    pids.iter().position(|pid| {
        let Some(pid) = pid else { return false };
        let Ok(files) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        files.flatten().any(|file| {
            std::fs::read_link(file.path()).is_ok_and(|target| target.to_string_lossy() == wanted.as_str())
        })
    })
}

/// The inode of the socket with these ends, from `/proc/net/tcp`: columns 1 and 2 are its addresses, column 9
/// the inode. Its own address alone would not do: one port serves connections to many addresses, those that
/// have ended among them.
fn socket_inode((own, remote): Ends) -> Option<String> {
    let (own, remote) = (in_table(own)?, in_table(remote)?);
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_whitespace().skip(1);
        let is_it = columns.next()? == own && columns.next()? == remote;
        is_it.then(|| columns.nth(6).map(str::to_owned))?
    })
}

/// An address as the table has it: in hexadecimal with its bytes reversed.
fn in_table(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else { return None };
    let [a, b, c, d] = address.ip().octets();
    Some(format!("{d:02X}{c:02X}{b:02X}{a:02X}:{:04X}", address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_owner_of_a_connection_is_found_by_both_of_its_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, from) = listener.accept().await.unwrap();
        let ends = (from, server.local_addr().unwrap());
        assert_eq!(ends, (client.local_addr().unwrap(), client.peer_addr().unwrap()));
        let pids = [None, Some(std::process::id())];
        assert_eq!(owner(ends, &pids), Some(1));
        assert_eq!(owner(ends, &[None]), None);
        let elsewhere = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), ends.1.port()));
        assert_eq!(owner((from, elsewhere), &pids), None, "another connection of the same port");
    }
}
