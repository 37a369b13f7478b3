//! etcdctl's commands, each against `cox store` and a real etcd, with what they print compared.

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::service::{Authority, PATIENCE, Service, cox_store, etcdctl, free_port, real_etcd, wait_healthy};

/// A store and how it is asked.
struct Side {
    endpoint: String,
    _service: Service,
}

impl Side {
    fn start(make: fn(&Path, u16) -> Command, dir: &Path, name: &str) -> Side {
        let (port, log) = (free_port(), dir.join(format!("{name}.log")));
        let service = Service::start(&mut make(&dir.join(name), port), &log);
        // Without a scheme: etcdctl 3.4 sends it as the authority of some requests, which HTTP/2 does not allow.
        let endpoint = format!("127.0.0.1:{port}");
        wait_healthy(
            || {
                let mut command = etcdctl(&endpoint);
                command.args(["endpoint", "health"]);
                command
            },
            &log,
        );
        // Asking for the health wrote nothing: both begin at the same revision.
        Side { endpoint, _service: service }
    }

    /// What a command said and how it ended, without what must differ.
    fn ask(&self, words: &[&str], input: &str) -> String {
        let mut command = etcdctl(&self.endpoint);
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        // The client's log lines have the time in them; their error has gRPC's code.
        let said = err.lines().filter_map(|line| match serde_json::from_str::<Value>(line) {
            Ok(entry) => entry["error"].as_str().map(str::to_owned),
            Err(_) => Some(line.to_owned()),
        });
        let lines = out.lines().map(plain).chain(said).collect::<Vec<_>>().join("\n");
        format!("{lines}\n(exit {:?})", output.status.code()).replace(&self.endpoint, "ENDPOINT")
    }
}

/// A line without the numbers that every store chooses for itself.
fn plain(line: &str) -> String {
    match serde_json::from_str::<Value>(line) {
        Ok(mut value) => {
            strip(&mut value);
            value.to_string()
        }
        Err(_) => line.to_owned(),
    }
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for own in ["cluster_id", "member_id", "raft_term"] {
                map.remove(own);
            }
            map.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

fn both(dir: &Path) -> [Side; 2] {
    [Side::start(cox_store, dir, "cox"), Side::start(real_etcd, dir, "etcd")]
}

/// Asks both and fails with both answers where they differ.
fn compare(sides: &[Side; 2], words: &[&str], input: &str) -> String {
    let [ours, theirs] = [0, 1].map(|side: usize| sides[side].ask(words, input));
    assert_eq!(ours, theirs, "etcdctl {words:?} {input:?}: ours, etcd's");
    ours
}

const LINES: &[&str] = &[
    "get nothing -w json",
    "put a 1 -w json",
    "put b 2",
    "put c/1 x",
    "put c/2 w",
    "put c/3 z --prev-kv",
    "put a 3 --prev-kv -w json",
    "put c/2 y --prev-kv",
    "get a -w json",
    "get a --rev 2 -w json",
    "get c/ --prefix",
    "get c/ --prefix --keys-only",
    "get c/ --prefix -w json --limit 2",
    "get c/ --prefix -w json --count-only",
    "get c/ --prefix --order DESCEND --sort-by VALUE -w json",
    "get c/ --prefix --order ASCEND --sort-by MODIFY --limit 2 -w json",
    "get c/ --prefix --sort-by CREATE --limit 1 -w json",
    "get c/ --prefix --order DESCEND --sort-by KEY",
    "get --order DESCEND --sort-by VERSION --prefix c/",
    "get --from-key b -w json",
    "get a c -w json",
    "get --consistency s a --print-value-only",
    "get a --rev 99",
    "put a --ignore-value -w json",
    "put a 4 --ignore-lease --prev-kv -w json",
    "put missing --ignore-value",
    "put missing x --ignore-lease",
    "put a 1 --lease 7b",
    "lease revoke 7b",
    "lease timetolive 7b -w json",
    "lease keep-alive 7b --once",
    "lease list",
    "del nothing -w json",
    "del c/3 --prev-kv -w json",
    "del c/ --prefix --prev-kv -w json",
    "get --prefix c/ --rev 5 -w json",
    "endpoint hashkv -w json",
    "compact 99",
    "compact 6",
    "compact 6",
    "compact 7 --physical",
    "get a --rev 3",
    "get a --rev 7 -w json",
    "endpoint hashkv -w json",
    "watch a --rev 3",
    "alarm list",
    "member list -w json --hex=false",
    "get",
];

/// Transactions as etcdctl reads them: comparisons, success, failure.
const TXNS: &[&str] = &[
    "mod(\"a\") > \"0\"\n\nput t 1\nget a\nput --prev-kv u 2\n\nget b\n\n",
    "value(\"a\") = \"nonsense\"\n\nput t 9\n\nget t\nget --prefix u\n\n",
    "create(\"t\") != \"0\"\nversion(\"t\") < \"5\"\n\ndel --prev-kv t\n\n\n",
    "create(\"gone\") = \"0\"\nmod(\"a\") != \"0\"\n\nput gone 1\n\n\n",
    "\nput twice 1\nput twice 2\n\n\n",
    "\nput in 1\ndel --prefix i\n\n\n",
    "\nget a --rev 2\nput never 1\n\n\n",
    "\nget --order DESCEND --sort-by MODIFY --prefix \"\" --limit 2\n\n\n",
];

#[test]
fn etcdctl_is_answered_as_etcd_answers() {
    let dir = tempfile::tempdir().unwrap();
    let sides = both(dir.path());
    for line in LINES {
        let words: Vec<&str> = line.split(' ').collect();
        if line.starts_with("member list") {
            let lists = [0, 1].map(|side: usize| sides[side].ask(&words, ""));
            assert!(lists.iter().all(|list| list.contains("\"name\":\"default\"")), "{lists:?}");
            continue;
        }
        compare(&sides, &words, "");
    }
    for txn in TXNS {
        compare(&sides, &["txn"], txn);
        compare(&sides, &["txn", "-w", "json"], txn);
    }
    let many: String = (0..200).map(|number| format!("put k{number} v\n")).collect();
    compare(&sides, &["txn"], &format!("\n{many}\n\n"));
    // A lock is made of leases, transactions and watches.
    assert!(compare(&sides, &["lock", "door", "echo", "held"], "").starts_with("held"));
    let large = "x".repeat(1_700_000);
    let refused = compare(&sides, &["put", "large"], &large);
    assert!(refused.contains("etcdserver: request is too large"), "{refused}");
    compare(&sides, &["get", "--prefix", "", "-w", "json"], "");
    compare(&sides, &["endpoint", "hashkv", "-w", "json"], "");
}

#[test]
fn leases_live_and_take_their_keys_along() {
    let dir = tempfile::tempdir().unwrap();
    let sides = both(dir.path());
    for side in &sides {
        let granted = side.ask(&["lease", "grant", "600"], "");
        let id = granted.split(' ').nth(1).unwrap().to_owned();
        assert!(granted.contains("granted with TTL(600s)"), "{granted}");
        let at_least = side.ask(&["lease", "grant", "1", "-w", "json"], "");
        assert!(at_least.contains("\"TTL\":2"), "{at_least}");
        side.ask(&["put", "leased", "1", "--lease", &id], "");
        let left = side.ask(&["lease", "timetolive", &id, "--keys"], "");
        assert!(left.contains("granted with TTL(600s)") && left.contains("attached keys([leased])"), "{left}");
        assert!(side.ask(&["lease", "list"], "").contains(&id));
        let renewed = side.ask(&["lease", "keep-alive", &id, "--once"], "");
        assert!(renewed.contains("keepalived with TTL(600)"), "{renewed}");
        // The lease stays with the key where a write ignores it, and leaves where one does not.
        side.ask(&["put", "leased", "2", "--ignore-lease"], "");
        assert!(side.ask(&["lease", "revoke", &id], "").contains("revoked"));
    }
    let gone = compare(&sides, &["get", "leased", "-w", "json"], "");
    assert!(!gone.contains("kvs"), "{gone}");
}

/// Watches from the past and through new writes, until it has seen as many lines as asked.
fn watch(side: &Side, words: &[&str], lines: usize, meanwhile: impl FnOnce()) -> Vec<String> {
    let mut command = etcdctl(&side.endpoint);
    command.arg("watch").args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    let out = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    meanwhile();
    let seen: Vec<_> = (0..lines).map_while(|_| receive.recv_timeout(PATIENCE).ok()).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(seen.len(), lines, "{seen:?}");
    seen
}

#[test]
fn watches_see_the_past_and_the_present() {
    let dir = tempfile::tempdir().unwrap();
    let sides = both(dir.path());
    let seen = sides.each_ref().map(|side| {
        for words in [["put", "w/1", "a"], ["put", "w/2", "b"], ["put", "other", "x"]] {
            side.ask(&words, "");
        }
        side.ask(&["del", "w/1"], "");
        watch(side, &["--prefix", "w/", "--rev", "1", "--prev-kv"], 19, || {
            side.ask(&["txn"], "\nput w/3 c\nput w/2 d\n\n\n");
        })
    });
    assert_eq!(seen[0], seen[1]);
    assert!(seen[0].join(" ").starts_with("PUT w/1 a PUT w/2 b DELETE w/1 a"), "{seen:?}");
}

#[test]
fn what_is_missing_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let side = Side::start(cox_store, dir.path(), "cox");
    let saved = dir.path().join("saved");
    let saved = saved.to_str().unwrap();
    for words in [
        &["snapshot", "save", saved][..],
        &["user", "list"],
        &["member", "add", "x", "--peer-urls=http://127.0.0.1:1"],
        &["auth", "enable"],
        &["user", "add", "x:y"],
    ] {
        let said = side.ask(words, "");
        assert!(said.contains("Unimplemented") && !said.contains("(exit Some(0))"), "{words:?}: {said}");
    }
    let status = side.ask(&["endpoint", "status", "-w", "json"], "");
    assert!(status.contains("\"version\":\"3.6.8\"") && status.contains("dbSize"), "{status}");
    assert!(side.ask(&["defrag"], "").contains("Finished defragmenting"));
    let get = |path: &str| {
        let url = format!("http://{}{path}", side.endpoint);
        String::from_utf8(Command::new("curl").args(["-s", &url]).output().unwrap().stdout).unwrap()
    };
    assert_eq!(get("/health"), r#"{"health":"true","reason":""}"#);
    assert_eq!(get("/version"), r#"{"etcdserver":"3.6.8","etcdcluster":"3.6.0"}"#);
    assert_eq!(get("/readyz"), "ok\n");
    assert!(get("/metrics").contains("etcd_debugging_mvcc_keys_total 0"));
}

#[test]
fn a_client_without_the_right_certificate_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, foreign) = (Authority::new(dir.path(), "ca"), Authority::new(dir.path(), "other"));
    let (server, client, stranger) = (ours.pair("server"), ours.pair("client"), foreign.pair("stranger"));
    let (port, log) = (free_port(), dir.path().join("log"));
    let endpoint = format!("https://127.0.0.1:{port}");
    let mut command = Command::new(crate::service::COX);
    command.args(["store", "--client-cert-auth", "--listen-client-urls", &endpoint]);
    command.arg("--data-dir").arg(dir.path().join("data")).arg("--trusted-ca-file").arg(&ours.file);
    command.arg("--cert-file").arg(&server.certificate).arg("--key-file").arg(&server.key);
    let _service = Service::start(&mut command, &log);
    let as_user = |words: &[&str], pair: Option<&crate::service::Pair>| {
        let mut command = etcdctl(&endpoint);
        command.args(["--dial-timeout", "5s", "--command-timeout", "5s"]).arg("--cacert").arg(&ours.file);
        if let Some(pair) = pair {
            command.arg("--cert").arg(&pair.certificate).arg("--key").arg(&pair.key);
        }
        command.args(words).stderr(Stdio::null());
        command
    };
    wait_healthy(|| as_user(&["endpoint", "health"], Some(&client)), &log);
    let put = as_user(&["put", "k", "v"], Some(&client)).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&put.stdout), "OK\n");
    for pair in [None, Some(&stranger)] {
        assert!(!as_user(&["get", "k"], pair).status().unwrap().success());
    }
}

#[test]
fn one_process_and_loopback_only() {
    let dir = tempfile::tempdir().unwrap();
    let side = Side::start(cox_store, dir.path(), "cox");
    let second = cox_store(&dir.path().join("cox"), free_port()).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && said.contains("lock"), "{said}");
    let mut open = cox_store(&dir.path().join("open"), free_port());
    let open = open.args(["--listen-client-urls", "http://0.0.0.0:1"]).output().unwrap();
    assert!(!open.status.success());
    let said = String::from_utf8_lossy(&open.stderr).into_owned();
    assert!(said.contains("loopback") || said.contains("cannot be used multiple times"), "{said}");
    assert!(side.ask(&["put", "still", "there"], "").starts_with("OK"));
}
