//! `logs`: what containers wrote, of one Pod or of all that an object or a selector names.

use std::io::Write as _;

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::sync::mpsc;

use super::pods::{self, Lines, containers, text};
use crate::error::{Exit, Result, has_reason, say};
use crate::flags::Args;
use crate::session::{JSON, Query, Session};

pub(super) const FLAGS: &str = "
  -f, --follow            Go on as more is written
  -p, --previous          Of the container's previous instance
  -c, --container=        Which container
      --all-containers    All containers
      --all-pods          All Pods of the object, with their names before each line
  -l, --selector=         Selector (label query) of Pods
      --since=            Only what is newer than this duration
      --since-time=       Only what is newer than this time (RFC 3339)
      --tail=             Only this many last lines; -1 is all, 10 with a selector
      --timestamps        The time before each line
      --prefix            The Pod and container before each line
      --limit-bytes=      At most this many bytes
      --max-log-requests= At most this many at once (5)
      --ignore-errors     Go on with the others when one fails
      --pod-running-timeout=  Accepted
      --insecure-skip-tls-verify-backend  Do not check the node's certificate
";

/// Lines that wait to be printed, of all containers together.
const QUEUE: usize = 256;

/// One container's log.
struct Source {
    namespace: String,
    pod: String,
    container: String,
}

pub(super) async fn run(args: &Args) -> Result<()> {
    let session = Session::open(args).await?;
    let query = query(args)?;
    let sources = sources(&session, args).await?;
    let most = args.number("max-log-requests")?.unwrap_or(5);
    if args.on("follow") && i64::try_from(sources.len()).unwrap_or(i64::MAX) > most {
        bail!(
            "you are attempting to follow {} log streams, but maximum allowed concurrency is {most}, use \
             --max-log-requests to increase the limit",
            sources.len()
        );
    }
    let has_prefix = args.on("prefix") || args.on("all-pods");
    if !args.on("follow") {
        let mut has_failed = false;
        for source in &sources {
            if let Err(error) = one(&session, source, &query, has_prefix, print).await {
                if !args.on("ignore-errors") {
                    return Err(error);
                }
                say(&error);
                has_failed = true;
            }
        }
        return if has_failed { Err(Exit(1).into()) } else { Ok(()) };
    }
    follow(&session, &sources, &query, has_prefix, args.on("ignore-errors")).await
}

/// Prints all logs as they come, a line at a time.
async fn follow(session: &Session, sources: &[Source], query: &Query, has_prefix: bool, ignores: bool) -> Result<()> {
    let (lines, mut printed) = mpsc::channel::<Vec<u8>>(QUEUE);
    let reading = async {
        let each = sources.iter().map(|source| {
            let lines = lines.clone();
            async move {
                let mut log = open(session, source, query).await?;
                while let Some(line) = log.next_with_end().await? {
                    // Nobody prints any more: the other half has an error to tell.
                    if lines.send(framed(source, &line, has_prefix)).await.is_err() {
                        return Ok(());
                    }
                }
                Ok(())
            }
        });
        let results: Vec<Result<()>> = if ignores {
            futures::future::join_all(each).await
        } else {
            futures::future::try_join_all(each).await.map(|_| Vec::new())?
        };
        drop(lines);
        for error in results.into_iter().filter_map(Result::err) {
            say(&error);
        }
        Ok(())
    };
    let printing = async {
        while let Some(line) = printed.recv().await {
            print(&line)?;
        }
        Ok(())
    };
    let both: Result<((), ())> = futures::future::try_join(reading, printing).await;
    both.map(drop)
}

fn print(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(())
}

fn framed(source: &Source, line: &[u8], has_prefix: bool) -> Vec<u8> {
    let mut framed = Vec::with_capacity(line.len() + 64);
    if has_prefix {
        framed.extend_from_slice(format!("[pod/{}/{}] ", source.pod, source.container).as_bytes());
    }
    framed.extend_from_slice(line);
    framed
}

async fn open(session: &Session, source: &Source, query: &Query) -> Result<Lines> {
    let path = format!("{}/{}/log", pods::pods_path(&source.namespace), source.pod);
    let uri = query.clone().with("container", &source.container).on(&path);
    Ok(Lines::of(session.send(http::Method::GET, &uri, JSON, None).await?.into_body()))
}

async fn one(
    session: &Session,
    source: &Source,
    query: &Query,
    has_prefix: bool,
    print: impl Fn(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut log = open(session, source, query).await?;
    while let Some(line) = log.next_with_end().await? {
        print(&framed(source, &line, has_prefix))?;
    }
    Ok(())
}

fn query(args: &Args) -> Result<Query> {
    let mut query = Query::new();
    for (flag, parameter) in [
        ("follow", "follow"),
        ("previous", "previous"),
        ("timestamps", "timestamps"),
        ("insecure-skip-tls-verify-backend", "insecureSkipTLSVerifyBackend"),
    ] {
        if args.on(flag) {
            query.add(parameter, "true");
        }
    }
    if args.has("since") && args.has("since-time") {
        bail!("at most one of `sinceTime` or `sinceSeconds` may be specified");
    }
    if let Some(seconds) = args.seconds("since")? {
        query.add("sinceSeconds", &format!("{}", seconds.ceil().max(1.0)));
    }
    if let Some(time) = args.get("since-time") {
        api::time::parse_rfc3339(time).map_err(anyhow::Error::msg)?;
        query.add("sinceTime", time);
    }
    let default = if args.has("selector") { Some(10) } else { None };
    match args.number("tail")?.or(default) {
        Some(lines) if lines >= 0 => query.add("tailLines", &lines.to_string()),
        Some(-1) | None => {}
        Some(_) => bail!("--tail must be greater than or equal to -1"),
    }
    match args.number("limit-bytes")? {
        Some(bytes) if bytes > 0 => query.add("limitBytes", &bytes.to_string()),
        Some(_) => bail!("--limit-bytes must be greater than 0"),
        None => {}
    }
    Ok(query)
}

/// Which logs the words ask for.
async fn sources(session: &Session, args: &Args) -> Result<Vec<Source>> {
    if args.has("container") && args.words.len() > 1 {
        bail!("only one of -c or an inline [CONTAINER] arg is allowed");
    }
    let wanted = args.get("container").or_else(|| args.words.get(1).map(String::as_str));
    if args.words.len() > 2 {
        bail!(
            "expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'.\nPOD or TYPE/NAME is a required argument \
             for the logs command"
        );
    }
    let pods = match (args.words.first(), args.get("selector")) {
        (Some(_), Some(_)) => bail!("only a selector (-l) or a POD name is allowed"),
        (None, None) => bail!(
            "expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'.\nPOD or TYPE/NAME is a required argument \
             for the logs command\nSee 'cox logs -h' for help and examples"
        ),
        (None, Some(selector)) => pods::matching(session, &session.namespace, selector).await?,
        (Some(word), None) => of_word(session, args, word).await?,
    };
    let mut sources = Vec::new();
    for pod in &pods {
        let source = |container: &str| Source {
            namespace: text(pod, "/metadata/namespace").to_owned(),
            pod: text(pod, "/metadata/name").to_owned(),
            container: container.to_owned(),
        };
        if args.on("all-containers") {
            sources.extend(containers(pod).map(|(_, name)| source(name)));
        } else {
            sources.push(source(&pods::container(pod, wanted, false)?));
        }
    }
    if pods.is_empty() {
        eprintln!("No resources found in {} namespace.", session.namespace);
    }
    Ok(sources)
}

async fn of_word(session: &Session, args: &Args, word: &str) -> Result<Vec<Value>> {
    let target = pods::pod_or_owner(session, word).await?;
    let mut found = match pods::pods_of(session, &target).await {
        Err(error) if has_reason(&error, "NotFound") && target.resource.is("", "Pod") => {
            let (name, namespace) = (&target.name, &target.namespace);
            bail!("error from server (NotFound): pods {name:?} not found in namespace {namespace:?}");
        }
        Err(error) if error.to_string().starts_with("selector for ") => {
            return Err(error.context(format!("cannot get the logs from *v1.{}", target.resource.kind)));
        }
        found => found?,
    };
    if !args.on("all-pods") && found.len() > 1 {
        let name = text(found.first().context("there are several")?, "/metadata/name").to_owned();
        eprintln!("Found {} pods, using pod/{name}", found.len());
        found.truncate(1);
    }
    Ok(found)
}
