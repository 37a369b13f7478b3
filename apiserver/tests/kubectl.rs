//! Over TLS, with the real kubectl where there is one, and with clients that misbehave.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::process::Command;
use std::time::Duration;

use support::listening::{Listening, listening};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Runs kubectl; its output, or `None` where there is no kubectl.
async fn kubectl(c: &Listening, args: &'static [&'static str]) -> Option<(bool, String)> {
    let (kubeconfig, cache) = (c.dir.path().join("kubeconfig"), c.dir.path().join("cache"));
    if !kubeconfig.exists() {
        std::fs::write(&kubeconfig, c.kubeconfig()).unwrap();
    }
    let run = move || {
        Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .arg("--cache-dir")
            .arg(cache)
            .arg("--request-timeout=50s")
            .args(args)
            .output()
    };
    match tokio::task::spawn_blocking(run).await.unwrap() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        output => {
            let output = output.unwrap();
            let text = [output.stdout, output.stderr].concat();
            Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_works() {
    let c = listening().await;
    let lines: &[(&'static [&'static str], &str)] = &[
        (&["create", "namespace", "team"], "namespace/team created"),
        (&["create", "configmap", "a", "--from-literal=k=v"], "configmap/a created"),
        (&["get", "configmap", "a", "-o", "jsonpath={.data.k}"], "v"),
        (&["create", "deployment", "web", "--image=nginx", "--replicas=2"], "deployment.apps/web created"),
        (&["scale", "deployment", "web", "--replicas=5"], "deployment.apps/web scaled"),
        (&["get", "deployment", "web"], "0/5"),
        (&["label", "deployment", "web", "tier=front"], "deployment.apps/web labeled"),
        (&["set", "image", "deployment/web", "nginx=nginx:1"], "deployment.apps/web image updated"),
        (&["get", "all", "-A"], "service/kubernetes"),
        (&["explain", "pod.spec.nodeName"], "FIELD: nodeName <string>"),
        (&["auth", "can-i", "create", "pods"], "yes"),
        (&["api-resources"], "deployments"),
        (&["delete", "configmap", "a"], "configmap \"a\" deleted"),
    ];
    for (args, expected) in lines {
        let Some((good, text)) = kubectl(&c, args).await else { return };
        assert!(good && text.contains(expected), "kubectl {args:?}: {text}");
    }
    let (good, text) = kubectl(&c, &["get", "configmap", "a"]).await.unwrap();
    assert!(!good && text.contains("configmaps \"a\" not found"), "{text}");
    c.stop.cancel();
    c.serving.await.unwrap();
}

/// Bodies and answers of these are protobuf.
#[tokio::test(flavor = "multi_thread")]
async fn kubectl_creates_every_kind_that_it_has_a_verb_for() {
    let c = listening().await;
    let lines: &[(&'static [&'static str], &str)] = &[
        (&["secret", "generic", "s", "--from-literal=a=b"], "secret/s"),
        (&["serviceaccount", "sa"], "serviceaccount/sa"),
        (&["token", "sa"], "eyJ"),
        (&["role", "r", "--verb=get", "--resource=pods"], "role.rbac.authorization.k8s.io/r"),
        (&["clusterrole", "r", "--verb=get", "--resource=nodes"], "clusterrole.rbac.authorization.k8s.io/r"),
        (&["rolebinding", "b", "--role=r", "--user=u"], "rolebinding.rbac.authorization.k8s.io/b"),
        (&["job", "j", "--image=i", "--", "sleep", "1"], "job.batch/j"),
        (&["cronjob", "c", "--image=i", "--schedule=*/5 * * * *"], "cronjob.batch/c"),
        (&["ingress", "i", "--rule=foo.com/bar=svc:80"], "ingress.networking.k8s.io/i"),
        (&["quota", "q", "--hard=pods=5,cpu=1"], "resourcequota/q"),
        (&["pdb", "p", "--selector=a=b", "--min-available=50%"], "poddisruptionbudget.policy/p"),
        (&["priorityclass", "p", "--value=10"], "priorityclass.scheduling.k8s.io/p"),
        (&["service", "clusterip", "s", "--tcp=80:8080"], "service/s"),
    ];
    for (args, expected) in lines {
        let args: &'static [&'static str] = Vec::leak([&["create"], *args].concat());
        let Some((good, text)) = kubectl(&c, args).await else { return };
        assert!(good && text.contains(expected), "kubectl {args:?}: {text}");
    }
    c.stop.cancel();
    c.serving.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_say_nothing_or_rubbish_stop_nobody() {
    let c = listening().await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(c.address).await.unwrap());
    }
    let mut rubbish = TcpStream::connect(c.address).await.unwrap();
    rubbish.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let read = rubbish.read_to_end(&mut answer);
    tokio::time::timeout(Duration::from_secs(30), read).await.unwrap().unwrap_or_default();
    let Some((good, text)) = kubectl(&c, &["get", "--raw", "/readyz"]).await else { return };
    assert!(good && text.contains("ok"), "{text}");
    drop(silent);
}
