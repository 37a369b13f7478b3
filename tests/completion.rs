//! Command lines are completed: by the protocol as kubectl completes them, and in a real bash at a terminal.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;

use testkit::cluster::{Cluster, PATIENCE};
use testkit::net::run;

const COX: &str = env!("CARGO_BIN_EXE_cox");

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: first}\nspec:\n  \
    containers:\n  - {name: main, image: 'none:1', ports: [{containerPort: 8080}]}\n  - {name: side, image: 'none:1'}\n";

fn cluster() -> Cluster {
    let cluster = Cluster::up(COX, &[]).unwrap();
    cluster.apply(POD).unwrap();
    cluster.apply(&POD.replace("first", "second")).unwrap();
    cluster.kubectl(&["create", "service", "clusterip", "web", "--tcp=80:8080"]).unwrap();
    cluster
}

/// What both offer, without what is said of it: that is in each one's own words.
fn offers(text: &str) -> Vec<&str> {
    text.lines().map(|line| line.split('\t').next().unwrap_or(line)).collect()
}

#[test]
fn words_are_completed_as_kubectl_completes_them() {
    let cluster = cluster();
    // The last word is what is being written; `_` is nothing yet.
    for line in [
        "get _",
        "get de",
        "get pods,ser",
        "get pods _",
        "get pods first _",
        "get po/f",
        "get po/first po/",
        "get po/first ser",
        "get pods -n kube-s",
        "get pods --namespace=de",
        "get -o js",
        "get --wat",
        "describe services _",
        "delete pods first second _",
        "logs _",
        "logs fi",
        "logs deploy",
        "logs first _",
        "exec first -- _",
        "port-forward first _",
        "port-forward first 9",
        "port-forward service/web _",
        "rollout _",
        "rollout status _",
        "rollout status deploy",
        "scale dep",
        "set image cron",
        "taint _",
        "cordon _",
        "cordon node-1 _",
        "top pod se",
        "expose re",
        "create cl",
        "create secret _",
        "create token _",
        "config use-context _",
        "config use-context any _",
        "config delete-user _",
        "--context _",
        "cp _",
        "cp default/",
        "nonsense _",
    ] {
        let words: Vec<&str> = line.split(' ').map(|word| if word == "_" { "" } else { word }).collect();
        let words = [&["__complete"], words.as_slice()].concat();
        let expected = run(&mut cluster.kubectl_command(&words)).unwrap();
        let found = run(&mut cluster.verb(&words)).unwrap();
        assert_eq!(offers(&found), offers(&expected), "{line}");
    }
    // Commands of the cluster's own are there too, and what no server tells.
    let words = run(&mut cluster.verb(&["__complete", "st"])).unwrap();
    assert_eq!(offers(&words), ["status", "store", ":4"]);
    let flags = run(&mut cluster.verb(&["__complete", "down", "--po"])).unwrap();
    assert_eq!(offers(&flags), ["--pods", ":4"]);
    // A server that is away is not waited for, nor complained of.
    run(&mut cluster.cox(&["down"])).unwrap();
    let away = cluster.verb(&["__complete", "get", "pods", ""]).output().unwrap();
    assert_eq!((String::from_utf8_lossy(&away.stdout).as_ref(), away.stderr.len()), (":4\n", 0));
}

/// A shell at a terminal, in which somebody types.
struct Terminal {
    shell: Child,
    says: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    fn open(cluster: &Cluster) -> Self {
        let mut command = cluster.network.command("script");
        command.args(["--quiet", "--flush", "--command", "bash --norc --noprofile -i", "/dev/null"]);
        let path = format!("{}:{}", Path::new(COX).parent().unwrap().display(), std::env::var("PATH").unwrap());
        command.env("PATH", path).env("KUBECONFIG", cluster.dir.join("kubeconfig")).env("TERM", "dumb");
        command.env("PS1", "$ ").env("HOME", cluster.home()).env("COLUMNS", "200");
        let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = shell.stdout.take().unwrap();
        let (sender, says) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = output.read(&mut buffer) {
                if length == 0 || sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { shell, says, seen: String::new() }
    }

    /// Types, and waits until the terminal shows something that was not there before.
    fn types(&mut self, keys: &str, until: &str) {
        self.seen.clear();
        self.shell.stdin.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while !self.seen.contains(until) {
            match self.says.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("{keys:?} did not lead to {until:?}: {:?}", self.seen)
                }
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may wait for more to be typed.
        self.shell.kill().unwrap();
        self.shell.wait().unwrap();
    }
}

#[test]
fn bash_completes_verbs_flags_types_and_names() {
    let cluster = cluster();
    let mut terminal = Terminal::open(&cluster);
    terminal.types("source <(cox completion bash) && echo it is \"there\"\n", "it is there");
    // What is typed is echoed; what was completed comes behind it.
    terminal.types("cox descr\t", "cox describe ");
    terminal.types("po/fi\t", "po/first ");
    terminal.types("--nam\t", "--namespace ");
    terminal.types("kube-sys\t", "kube-system ");
    terminal.types("\u{15}", "");
    terminal.types("cox get pods --namespace=kube-pu\t", "--namespace=kube-public ");
    terminal.types("\u{15}cox port-forward first 9:\t", "9:8080 ");
    terminal.types("\u{15}cox get namesp\tkube-no\t-o na\t", "-o name ");
    terminal.types("\n", "namespace/kube-node-lease");
    // Of several all are shown.
    terminal.types("cox get pods \t\t", "second");
    assert!(terminal.seen.contains("first"), "{}", terminal.seen);
    terminal.types("\u{15}cox dow\t--da\t", "cox down --data-dir ");
    terminal.types("/etc/host\t", "/etc/host");
    terminal.types("\u{15}exit\n", "exit");
}
