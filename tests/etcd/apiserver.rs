//! Our API server on a store that is another process: `cox store` over TLS, and a real etcd.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use testkit::{Kubectl, Network, wait_for};

use crate::service::{Authority, COX, PATIENCE, Pair, Service};

/// Where everything of one trial runs.
struct Place {
    network: Network,
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { network: Network::lonely().unwrap(), dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn kubectl(&self) -> Kubectl {
        Kubectl {
            entry: self.network.entry(),
            kubeconfig: self.path("api/kubeconfig"),
            home: self.dir.path().to_owned(),
        }
    }

    fn start(&self, mut command: Command, name: &str) -> Service {
        Service::start(&mut command, &self.path(&format!("{name}.log")))
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default()
    }

    /// The API server alone, and its arguments for the store.
    fn apiserver(&self, etcd: &[&str]) -> Service {
        let mut command = self.network.command(COX);
        command.args(["apiserver", "--node-name", "n1", "--node-ip", &self.network.ip]);
        command.arg("--data-dir").arg(self.path("api")).args(etcd).env("COX_LOG", "info");
        let service = self.start(command, "api");
        let kubectl = self.kubectl();
        let ready = wait_for("the API server", PATIENCE, || Ok(kubectl.kubectl(&["get", "--raw", "/readyz"]).ok()));
        ready.unwrap_or_else(|error| panic!("{error:#}\n{}", self.log("api")));
        service
    }
}

/// `kubectl get configmaps -w -o name`, into a file.
fn watch(place: &Place, file: &Path) -> Child {
    let out = std::fs::File::create(file).unwrap();
    let mut command = place.kubectl().kubectl_command(&["get", "configmaps", "-l", "test", "-w", "-o", "name"]);
    command.stdout(out).stderr(Stdio::null()).spawn().unwrap()
}

fn create(kubectl: &Kubectl, name: &str) {
    let text =
        format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}, labels: {{test: x}}}}, data: {{k: v}}}}");
    // While the store is away, requests fail and may be tried again.
    wait_for(&format!("{name} to be created"), PATIENCE, || {
        kubectl.apply(&text)?;
        Ok(Some(()))
    })
    .unwrap();
}

fn wait_seen(file: &Path, name: &str) {
    wait_for(&format!("the watch to see {name}"), PATIENCE, || {
        let seen = std::fs::read_to_string(file)?.lines().any(|line| line == format!("configmap/{name}"));
        Ok(seen.then_some(()))
    })
    .unwrap();
}

/// Writes, lists, watches and patches while store and API server are started anew in turn.
fn trial(place: &Place, start_store: impl Fn() -> Service, etcd: &[&str]) {
    let store = start_store();
    let api = place.apiserver(etcd);
    let kubectl = place.kubectl();
    create(&kubectl, "one");
    let file = place.path("seen");
    let mut watcher = watch(place, &file);
    wait_seen(&file, "one");
    kubectl.kubectl(&["patch", "configmap", "one", "-p", r#"{"data":{"k":"w"}}"#]).unwrap();
    create(&kubectl, "two");
    wait_seen(&file, "two");
    assert!(store.stop(), "the store ends well");
    // What is cached is still served to who takes that; others are told to come again.
    let path = "/api/v1/namespaces/default/configmaps/one";
    let cached = kubectl.kubectl(&["get", "--raw", &format!("{path}?resourceVersion=0")]);
    assert!(cached.is_ok(), "{cached:?}");
    let refused = kubectl.kubectl_fails(&["get", "configmap", "one"]).unwrap();
    assert!(refused.contains("ServerTimeout"), "{refused}");
    let store = start_store();
    create(&kubectl, "three");
    wait_seen(&file, "three");
    store.kill();
    let _store = start_store();
    create(&kubectl, "four");
    wait_seen(&file, "four");
    watcher.kill().unwrap();
    watcher.wait().unwrap();
    assert!(api.stop(), "the API server ends well: {}", place.log("api"));
    let _api = place.apiserver(etcd);
    let names = kubectl.kubectl(&["get", "configmaps", "-l", "test", "-o", "name"]).unwrap();
    assert_eq!(names, "configmap/four\nconfigmap/one\nconfigmap/three\nconfigmap/two\n");
    let value = kubectl.kubectl(&["get", "configmap", "one", "-o", "jsonpath={.data.k}"]).unwrap();
    assert_eq!(value, "w");
    kubectl.kubectl(&["delete", "configmap", "-l", "test"]).unwrap();
    assert_eq!(kubectl.kubectl(&["get", "configmaps", "-l", "test", "-o", "name"]).unwrap(), "");
}

#[test]
fn on_cox_store_over_tls() {
    let place = Place::new();
    let authority = Authority::new(place.dir.path(), "ca");
    let (Pair { certificate, key }, client) = (authority.pair("server"), authority.pair("client"));
    let start_store = || {
        let mut command = place.network.command(COX);
        command.args(["store", "--listen-client-urls", "https://127.0.0.1:2379"]).env("COX_LOG", "info");
        command.arg("--data-dir").arg(place.path("store")).arg("--trusted-ca-file").arg(&authority.file);
        command.arg("--cert-file").arg(&certificate).arg("--key-file").arg(&key);
        place.start(command, "store")
    };
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (ca, cert, key) = (text(&authority.file), text(&client.certificate), text(&client.key));
    // The first endpoint is a member that is not there.
    let servers = "https://127.0.0.1:2378,https://127.0.0.1:2379";
    let files = ["--etcd-cafile", &ca, "--etcd-certfile", &cert, "--etcd-keyfile", &key];
    trial(&place, start_store, &[&["--etcd-servers", servers][..], &files].concat());
}

#[test]
fn on_a_real_etcd_under_a_prefix() {
    let place = Place::new();
    let url = "http://127.0.0.1:2379";
    let start_store = || {
        let mut command = place.network.command("etcd");
        command.arg("--data-dir").arg(place.path("store"));
        command.args(["--listen-client-urls", url, "--advertise-client-urls", url]);
        place.start(command, "store")
    };
    trial(&place, start_store, &["--etcd-servers", url, "--etcd-prefix", "/clusters/a"]);
    let _store = start_store();
    let list = || {
        let mut command = place.network.command("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", url, "get", "--prefix", "", "--keys-only"]);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let keys = wait_for("etcd's keys", PATIENCE, || Ok(Some(list()).filter(|keys| !keys.is_empty()))).unwrap();
    assert!(keys.lines().all(|key| key.is_empty() || key.starts_with("/clusters/a/")), "{keys}");
}
