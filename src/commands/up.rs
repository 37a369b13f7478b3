//! `cox up` and `cox server`: a whole cluster in this process, in the foreground or detached.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use kubelet::Shutdown;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{machine, next_steps, place, require_root, start_logging};
use crate::block;
use crate::cli::UpArgs;
use crate::cluster::{self, API_PORT, ApiServer, Machine};
use crate::daemon;
use crate::layout::Layout;
use crate::netns;
use crate::node;
use crate::parts::{Parts, in_process_clients};
use crate::progress::{Progress, say};
use crate::slot::Slot;

/// How the command was called: a server says how others join it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Up,
    Server,
}

impl Role {
    fn command(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Server => "server",
        }
    }
}

/// Tells a process with a kubelet to end its Pods, and then itself.
const END_PODS: SignalKind = SignalKind::user_defined1();

/// How long parts may take to end.
pub const PATIENCE: Duration = Duration::from_secs(5);

pub fn run(args: UpArgs, role: Role) -> Result<()> {
    let progress = Progress::start();
    require_root(role.command())?;
    let layout = Layout::create(&args.dir.data_dir)?;
    if args.node.detach && !daemon::is_child() {
        daemon::detach(&layout)?;
        say(&next_steps(&layout));
        return Ok(());
    }
    let lock = layout.lock()?;
    lock.write_pid()?;
    netns::remember(&layout)?;
    start_logging()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    block::on(&runtime, Box::pin(serve(&args, role, &layout, &progress)))
}

async fn serve(args: &UpArgs, role: Role, layout: &Layout, progress: &Progress) -> Result<()> {
    let machine = machine(&args.node)?;
    let mut parts = Parts::new();
    let shutdown = Shutdown::default();
    let api = ApiServer::start(layout, &machine, &mut parts, progress).await?;
    let clients = in_process_clients(&api.server);
    let range = args.load_balancer_range.as_deref();
    let slot = |component| Slot::take(layout, component, &machine.name);
    cluster::start_controllers(&clients, &api.authority, range, slot("controllers")?, &mut parts);
    cluster::start_scheduler(&clients, slot("scheduler")?, &mut parts);
    node::start(layout, &machine, &args.node.registry_mirror, &clients, &shutdown, &mut parts).await?;
    node::ready(clients(&format!("system:node:{}", machine.name)), &machine.name).await?;
    progress.reached(&format!("node {} Ready", machine.name));
    if role == Role::Server {
        progress.reached(&invitation(layout, &machine));
    }
    daemon::say_ready()?;
    if !daemon::is_child() {
        say(&format!("{}\n\nCtrl-C stops the process; containers go on running.", next_steps(layout)));
    }
    end_signal(&parts, &shutdown).await?;
    parts.end(PATIENCE).await;
    api.close().await;
    Ok(())
}

/// How another machine joins: a complete command line but for the secret, and what prints that.
fn invitation(layout: &Layout, machine: &Machine) -> String {
    let server = SocketAddr::new(machine.ip, API_PORT);
    let place = place(layout);
    format!(
        "others join with:  cox agent --server https://{server} --token TOKEN  (`cox token create{place}` prints one)"
    )
}

/// What tells a process to end.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// `cox down --pods`: the Pods are to end first.
    end_pods: Signal,
}

impl Signals {
    /// From here on, signals are kept until they are asked for.
    pub fn new() -> Result<Self> {
        let terminate = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("wait for SIGINT")?;
        let end_pods = signal(END_PODS).context("wait for SIGUSR1")?;
        Ok(Self { terminate, interrupt, end_pods })
    }

    /// Returns when the process is to end now, the Pods before it if that was asked for.
    pub async fn told(&mut self, shutdown: &Shutdown) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.end_pods.recv() => {
                    tracing::info!("the Pods are told to end");
                    shutdown.ask();
                }
                () = shutdown.ended() => return,
            }
        }
    }
}

/// Returns when the process is told to end, or a part that it cannot be without has ended.
pub async fn stop_signal(parts: &Parts) -> Result<()> {
    end_signal(parts, &Shutdown::default()).await
}

/// As [`stop_signal`], for a process with a kubelet, which may be told to end its Pods first.
pub async fn end_signal(parts: &Parts, shutdown: &Shutdown) -> Result<()> {
    let mut signals = Signals::new()?;
    tokio::select! {
        () = signals.told(shutdown) => Ok(()),
        () = parts.stop.cancelled() => anyhow::bail!("the API server ended; the log says why"),
    }
}
