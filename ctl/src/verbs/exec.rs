//! `exec`: runs a command in a container.

use anyhow::{Context as _, bail};

use super::pods::{self, text};
use crate::error::Result;
use crate::flags::Args;
use crate::remote::{command, terminal};
use crate::session::{Query, Session};
use crate::target;

pub(super) const FLAGS: &str = "
  -c, --container=   Which container
  -i, --stdin        Pass standard input on
  -t, --tty          A terminal
  -q, --quiet        Without messages
  -f, --filename=,   A file that names the object
      --pod-running-timeout=  Accepted
";

pub(super) async fn run(args: &Args) -> Result<()> {
    let at = args.dash.unwrap_or(1).min(args.words.len());
    let at = if args.has("filename") { args.dash.unwrap_or(0) } else { at };
    let (objects, command_words) = args.words.split_at(at);
    if objects.len() != usize::from(!args.has("filename")) {
        bail!("pod, type/name or --filename must be specified");
    }
    if command_words.is_empty() {
        bail!("you must specify at least one command for the container");
    }
    if args.dash.is_none() {
        bail!(
            "exec [POD] [COMMAND] is not supported anymore. Use exec [POD] -- [COMMAND] instead\nSee 'cox exec -h' \
             for help and examples"
        );
    }
    let session = Session::open(args).await?;
    let target = match objects.first() {
        Some(word) => pods::pod_or_owner(&session, word).await?,
        None => {
            let target = target::targets(&session, args, &[]).await?.into_iter().next();
            target.context("the file names no object")?
        }
    };
    let found = pods::pods_of(&session, &target).await?;
    let pod = found.first().context("there is a pod")?;
    check_runs(pod)?;
    let container = pods::container(pod, args.get("container"), args.on("quiet"))?;
    let mut query = Query::new().with("container", container).with("stdout", "true");
    for word in command_words {
        query.add("command", word);
    }
    stream(&session, args, pod, "exec", query).await
}

/// Nothing can be run in a Pod that is over.
pub(super) fn check_runs(pod: &serde_json::Value) -> Result<()> {
    match text(pod, "/status/phase") {
        phase @ ("Succeeded" | "Failed") => {
            bail!("cannot exec into a container in a completed pod; current phase is {phase}")
        }
        _ => Ok(()),
    }
}

/// Joins the terminal, or the plain streams, with a container.
pub(super) async fn stream(
    session: &Session,
    args: &Args,
    pod: &serde_json::Value,
    verb: &str,
    query: Query,
) -> Result<()> {
    let with_stdin = args.on("stdin");
    let mut with_tty = args.on("tty");
    if with_tty && !(with_stdin && terminal::is_terminal()) {
        if with_stdin {
            eprintln!("Unable to use a TTY - input is not a terminal or the right kind of file");
        }
        with_tty = false;
    }
    let mut query = query;
    if with_stdin {
        query.add("stdin", "true");
    }
    if with_tty {
        query.add("tty", "true");
    } else {
        // A terminal has one output for both.
        query.add("stderr", "true");
    }
    let namespace = text(pod, "/metadata/namespace");
    let uri = query.on(&format!("{}/{}/{verb}", pods::pods_path(namespace), text(pod, "/metadata/name")));
    let raw = if with_tty { Some(terminal::Raw::enter()?) } else { None };
    let input = if with_stdin || with_tty { Some(terminal::input(with_stdin, with_tty)?) } else { None };
    let done = command::run(session, &uri, input, &mut std::io::stdout(), &mut std::io::stderr()).await;
    drop(raw);
    done
}
