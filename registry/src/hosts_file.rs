//! Names from a file, for tests that move nodes from one address to another.
//!
//! A program built for use (without debug assertions) asks the system alone: nothing that is set can send its
//! connections elsewhere.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use registry_client::transport::{Resolve, SystemResolver};

/// The variable that names the file.
pub const VARIABLE: &str = "REGISTRY_HOSTS_FILE";

/// The resolver of the system, or, in a program built for tests, one that knows the names of this file alone.
/// Lines are as in `/etc/hosts`: an address and its names. The file is read at each lookup.
pub fn resolver(file: Option<&str>) -> Arc<dyn Resolve> {
    match file.filter(|_| cfg!(debug_assertions)) {
        Some(file) => Arc::new(HostsFile(file.into())),
        None => Arc::new(SystemResolver),
    }
}

#[derive(Debug)]
struct HostsFile(PathBuf);

impl Resolve for HostsFile {
    fn resolve(&self, endpoint: &str) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let (file, endpoint) = (self.0.clone(), endpoint.to_owned());
        Box::pin(async move { addresses(&std::fs::read_to_string(file)?, &endpoint) })
    }
}

fn addresses(hosts: &str, endpoint: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = endpoint.parse() {
        return Ok(vec![address]);
    }
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, format!("{endpoint} is not HOST:PORT"));
    let (host, port) = endpoint.rsplit_once(':').ok_or_else(invalid)?;
    let port: u16 = port.parse().map_err(|_| invalid())?;
    let known = hosts.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address: IpAddr = words.next()?.parse().ok()?;
        words.any(|name| name == host).then_some(SocketAddr::new(address, port))
    });
    let known: Vec<_> = known.collect();
    if known.is_empty() { Err(io::Error::new(io::ErrorKind::NotFound, "no such name")) } else { Ok(known) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_all_addresses_of_its_lines() {
        let hosts = "127.0.0.1 a b\n127.0.0.2 b\nnonsense\n";
        let found = |endpoint: &str| addresses(hosts, endpoint).ok().map(|found| found.len());
        assert_eq!((found("a:1"), found("b:1"), found("c:1")), (Some(1), Some(2), None));
        assert_eq!(found("10.0.0.1:1"), Some(1), "an address needs no line");
        assert_eq!((found("a"), found("a:x")), (None, None));
    }
}
