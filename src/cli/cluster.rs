//! `-n`, `-p` and `-H`: several processes that run a script together.

use std::fs;
use std::time::Duration;

use crate::cli::{ClusterArgs, Failure};
use crate::runtime::cluster::ClusterConfig;

/// The first port where the processes of one machine listen, as timely has it.
const FIRST_PORT: u16 = 2101;

/// What the options say; `None`: this process alone.
pub(super) fn config(args: &ClusterArgs) -> Result<Option<ClusterConfig>, Failure> {
    let processes = usize::from(args.processes);
    let process = usize::from(args.process);
    if process >= processes {
        return Err(Failure::usage(format!(
            "-p {process}: with -n {processes} processes are numbered 0 to {}",
            processes - 1
        )));
    }
    if processes == 1 {
        return Ok(None);
    }
    let addresses = match &args.hostfile {
        None => (0..args.processes)
            .map(|process| format!("localhost:{}", FIRST_PORT + process))
            .collect(),
        Some(file) => {
            let text = fs::read_to_string(file).map_err(|error| {
                Failure::usage(format!(
                    "cannot read the host file {}: {error}",
                    file.display()
                ))
            })?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            let addresses: Vec<String> = lines.map(str::to_owned).collect();
            if let Some(bad) = addresses.iter().find(|line| !is_address(line)) {
                return Err(Failure::usage(format!(
                    "{}: '{bad}' is no address; write host:port, one a line",
                    file.display()
                )));
            }
            if addresses.len() < processes {
                return Err(Failure::usage(format!(
                    "{} names {} of {processes} processes; it needs a line host:port for each",
                    file.display(),
                    addresses.len()
                )));
            }
            addresses.into_iter().take(processes).collect()
        }
    };
    Ok(Some(ClusterConfig {
        process,
        addresses,
        connect_timeout: Duration::from_secs(args.connect_timeout),
    }))
}

fn is_address(line: &str) -> bool {
    line.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}
