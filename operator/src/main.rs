//! The program `registry-operator`.

use std::process::ExitCode;

use clap::Parser as _;
use registry_operator::args::{Args, LogFormat};
use registry_operator::operator;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(problem) = log_to_standard_error(&args) {
        // There is no log to say it in.
        clap::Error::raw(clap::error::ErrorKind::ValueValidation, format!("{problem}\n")).exit();
    }
    match operator::run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::warn!(%error, "ending");
            ExitCode::FAILURE
        }
    }
}

fn log_to_standard_error(args: &Args) -> Result<(), String> {
    let filter = EnvFilter::try_new(&args.log)
        .map_err(|error| format!("--log {}: {error}; give such as info or info,kube=debug", args.log))?;
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    match args.log_format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(|error| error.to_string())
}
