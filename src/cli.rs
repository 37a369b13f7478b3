//! The command line: which words start what. Words that are not here are the kubectl-like verbs and go to `ctl`.

use std::ffi::OsString;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::{commands, completion, daemon, layout};

/// A complete Kubernetes cluster in one small binary.
#[derive(Parser)]
#[command(name = "cox", version, about, after_help = ctl::VERBS_HELP, allow_external_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a whole cluster on this machine, in one process
    Up(UpArgs),
    /// Start a control plane (and a node) that agents join
    Server(UpArgs),
    /// Start a node that joins a server
    Agent(AgentArgs),
    /// Show what runs, what it uses and what is wrong
    Status(DirArgs),
    /// Stop the process; containers go on running
    Down(DownArgs),
    /// Remove everything that the cluster made on this machine
    Reset(ResetArgs),
    /// Make, list and delete the tokens that nodes join with
    Token(TokenArgs),
    /// Load, list, pull and remove container images
    Image(ImageArgs),
    /// Run the store alone: etcd's v3 API on a data directory
    Store(StoreArgs),
    /// Run the API server alone, over the embedded store or an etcd
    Apiserver(ApiserverArgs),
    /// Run the scheduler alone
    Scheduler(PartArgs),
    /// Run the controllers alone
    #[command(name = "controller-manager")]
    ControllerManager(PartArgs),
    /// Run the kubelet alone
    Kubelet(PartArgs),
    /// Run the service proxy and cluster DNS alone
    Proxy(PartArgs),
    #[command(external_subcommand)]
    Ctl(Vec<OsString>),
}

#[derive(Args, Clone, Debug)]
pub struct DirArgs {
    /// Where the cluster keeps its data
    #[arg(long, value_name = "DIR", default_value = layout::DEFAULT_DIR)]
    pub data_dir: PathBuf,
}

/// What concerns this machine as a node.
#[derive(Args, Clone, Debug)]
pub struct NodeArgs {
    /// The address by which other machines reach this one [default: the one that its default route uses]
    #[arg(long, value_name = "IP")]
    pub node_ip: Option<IpAddr>,
    /// The node's name [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// Ask another registry in a registry's place: docker.io=http://HOST:PORT (may be repeated)
    #[arg(long, value_name = "REGISTRY=URL", value_parser = parse_mirror)]
    pub registry_mirror: Vec<(String, String)>,
    /// Return when the node is Ready, and go on in the background
    #[arg(long)]
    pub detach: bool,
}

#[derive(Args, Clone, Debug)]
pub struct UpArgs {
    #[command(flatten)]
    pub dir: DirArgs,
    #[command(flatten)]
    pub node: NodeArgs,
    /// Addresses for LoadBalancer Services, as a CIDR or FIRST-LAST [default: the nodes' own]
    #[arg(long, value_name = "RANGE")]
    pub load_balancer_range: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub struct AgentArgs {
    #[command(flatten)]
    pub dir: DirArgs,
    #[command(flatten)]
    pub node: NodeArgs,
    /// The server to join: https://IP:6443
    #[arg(long, value_name = "URL")]
    pub server: String,
    /// A token from `cox token create` on the server
    #[arg(long, value_name = "TOKEN")]
    pub token: String,
}

#[derive(Args, Clone, Debug)]
pub struct DownArgs {
    #[command(flatten)]
    pub dir: DirArgs,
    /// Stop the containers too: preStop hooks run, and each Pod has its grace period. Pods that are always restarted
    /// come back with the next start; others have failed
    #[arg(long)]
    pub pods: bool,
    /// Seconds that all Pods together may take to end; what is left then is killed
    #[arg(long, value_name = "SECONDS", default_value_t = 120, requires = "pods")]
    pub timeout: u64,
}

#[derive(Args, Clone, Debug)]
pub struct ResetArgs {
    #[command(flatten)]
    pub dir: DirArgs,
    /// Yes, remove it all
    #[arg(long)]
    pub yes: bool,
}

#[derive(Args, Clone, Debug)]
pub struct TokenArgs {
    #[command(subcommand)]
    pub action: TokenAction,
}

#[derive(Subcommand, Clone, Debug)]
pub enum TokenAction {
    /// Make a token and print it
    Create {
        #[command(flatten)]
        dir: DirArgs,
        /// How long it is good for, in hours; 0 is for ever
        #[arg(long, default_value_t = 24)]
        ttl_hours: u32,
    },
    /// List the tokens
    List(DirArgs),
    /// Delete a token by its id (the part before the first dot)
    Delete {
        id: String,
        #[command(flatten)]
        dir: DirArgs,
    },
}

#[derive(Args, Clone, Debug)]
pub struct ImageArgs {
    #[command(subcommand)]
    pub action: ImageAction,
}

#[derive(Subcommand, Clone, Debug)]
pub enum ImageAction {
    /// Load the images of a docker-archive or OCI layout tar
    Load {
        file: PathBuf,
        #[command(flatten)]
        dir: DirArgs,
    },
    /// List the images
    List(DirArgs),
    /// Pull an image from its registry
    Pull {
        image: String,
        #[command(flatten)]
        dir: DirArgs,
        #[arg(long, value_name = "REGISTRY=URL", value_parser = parse_mirror)]
        registry_mirror: Vec<(String, String)>,
    },
    /// Remove an image
    Remove {
        image: String,
        #[command(flatten)]
        dir: DirArgs,
    },
}

/// What a component that runs alone needs to know.
#[derive(Args, Clone, Debug)]
pub struct PartArgs {
    #[command(flatten)]
    pub dir: DirArgs,
    #[command(flatten)]
    pub node: NodeArgs,
    /// How to reach the API and as whom [default: made from the data directory's own certificates]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

/// An API server that runs alone: its store may be elsewhere. The names are kube-apiserver's.
#[derive(Args, Clone, Debug)]
pub struct ApiserverArgs {
    #[command(flatten)]
    pub part: PartArgs,
    #[command(flatten)]
    pub etcd: EtcdArgs,
}

#[derive(Args, Clone, Debug)]
pub struct EtcdArgs {
    /// Keep objects in this etcd (or `cox store`), not in the embedded store: scheme://ip:port, comma separated
    #[arg(long, value_name = "URLS", value_delimiter = ',')]
    pub etcd_servers: Vec<String>,
    /// The authority that signs etcd's certificates
    #[arg(long, value_name = "FILE", requires = "etcd_servers")]
    pub etcd_cafile: Option<PathBuf>,
    /// The certificate to show to etcd
    #[arg(long, value_name = "FILE", requires = "etcd_keyfile")]
    pub etcd_certfile: Option<PathBuf>,
    /// The key of that certificate
    #[arg(long, value_name = "FILE", requires = "etcd_certfile")]
    pub etcd_keyfile: Option<PathBuf>,
    /// What all keys in etcd begin with
    #[arg(long, value_name = "PREFIX", default_value = "/registry")]
    pub etcd_prefix: String,
}

/// The store alone. The names are etcd's.
#[derive(Args, Clone, Debug)]
pub struct StoreArgs {
    /// The member's name
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub name: String,
    /// Where the store keeps its data
    #[arg(long, value_name = "DIR", default_value = layout::DEFAULT_STORE)]
    pub data_dir: PathBuf,
    /// Where to listen; http:// on loopback addresses only
    #[arg(long, value_name = "URLS", value_delimiter = ',', default_value = "http://localhost:2379")]
    pub listen_client_urls: Vec<String>,
    /// Where clients are told to find this member [default: where it listens]
    #[arg(long, value_name = "URLS", value_delimiter = ',')]
    pub advertise_client_urls: Vec<String>,
    /// The certificate that https:// listeners show
    #[arg(long, value_name = "FILE", requires = "key_file")]
    pub cert_file: Option<PathBuf>,
    /// The key of that certificate
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    pub key_file: Option<PathBuf>,
    /// Clients must show a certificate that this authority signed
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    pub trusted_ca_file: Option<PathBuf>,
    /// Clients must show a certificate, signed by --trusted-ca-file (which alone demands it too)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false)]
    pub client_cert_auth: bool,
}

fn parse_mirror(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((registry, url))
            if !registry.is_empty() && (url.starts_with("http://") || url.starts_with("https://")) =>
        {
            Ok((registry.to_owned(), url.trim_end_matches('/').to_owned()))
        }
        _ => Err("expected REGISTRY=http://HOST:PORT or REGISTRY=https://HOST".to_owned()),
    }
}

/// An error and its causes. Of the API's answer only the message is for people; and many errors repeat their cause.
fn reasons(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        if let Some(kube::Error::Api(status)) = cause.downcast_ref() {
            parts.push(status.message.clone());
            break;
        }
        let text = cause.to_string();
        if parts.last().is_none_or(|before| !before.contains(&text)) {
            parts.push(text);
        }
    }
    parts.join(": ")
}

/// Parses the command line and runs what it asks for.
pub fn run() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    // kubectl's global flags may stand before the verb.
    let is_flag = |word: &OsString| {
        let word = word.to_string_lossy();
        word.starts_with('-') && !matches!(&*word, "-h" | "--help" | "-V" | "--version")
    };
    if args.get(1).is_some_and(is_flag) {
        return ctl::main(args.into_iter().skip(1).collect());
    }
    if args.get(1).is_some_and(|word| word == "__complete") {
        return completion::run(Cli::command(), args.into_iter().skip(2).collect());
    }
    // A detached cluster is the same command line, run again with the pipe for its word to the parent.
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let done = match cli.command {
        Command::Up(args) => commands::up::run(args, commands::up::Role::Up),
        Command::Server(args) => commands::up::run(args, commands::up::Role::Server),
        Command::Agent(args) => commands::agent::run(args),
        Command::Status(args) => commands::status::run(&args),
        Command::Down(args) => commands::down::run(&args),
        Command::Reset(args) => commands::reset::run(&args),
        Command::Token(args) => commands::token::run(args.action),
        Command::Image(args) => commands::image::run(args.action),
        Command::Store(args) => commands::store::run(&args),
        Command::Apiserver(args) => commands::part::run_apiserver(args),
        Command::Scheduler(args) => commands::part::run(args, commands::part::Part::Scheduler),
        Command::ControllerManager(args) => commands::part::run(args, commands::part::Part::ControllerManager),
        Command::Kubelet(args) => commands::part::run(args, commands::part::Part::Kubelet),
        Command::Proxy(args) => commands::part::run(args, commands::part::Part::Proxy),
        Command::Ctl(words) => return ctl::main(words),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let why = reasons(&error);
            daemon::say_failed(&why);
            // Standard error may be a file on a full disk: then there is nobody left to tell.
            drop(writeln!(std::io::stderr(), "error: {why}"));
            ExitCode::FAILURE
        }
    }
}
