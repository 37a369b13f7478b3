//! How soon a new Service answers.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;
use testkit::Image;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::side::Target;

/// Services that are made one after another; the median counts.
const SERVICES: usize = 31;
/// Ends a run that hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the address is tried; also what the figure may be wrong by.
const LOOK: Duration = Duration::from_millis(1);
/// How long one try waits. What comes before the rules is dropped without a word, so tries do not wait for each other.
const TRY: Duration = Duration::from_millis(200);

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - {name: web, image: "web:bench", imagePullPolicy: Never}
"#;

/// Milliseconds from the request that makes a Service to the first answer of its Pod through it; the Pod runs already.
pub async fn first_answer(target: &Target) -> Result<f64> {
    let cluster = target.own()?;
    let script = "mkdir -p /tmp/www; echo here > /tmp/www/index.html; exec httpd -f -p 80 -h /tmp/www";
    let image = Image::named("docker.io/library/web:bench").busybox()?.entrypoint(&["/bin/sh", "-c", script]);
    cluster.load(&image)?;
    cluster.apply(POD)?;
    cluster.wait_ready("web")?;
    let mut connection = target.access()?.connect().await?;
    let mut seen = Vec::with_capacity(SERVICES);
    for number in 0..SERVICES {
        let body = format!(
            r#"{{"metadata":{{"name":"web-{number}"}},"spec":{{"selector":{{"app":"web"}},"ports":[{{"port":80}}]}}}}"#
        );
        let start = Instant::now();
        let made = connection.json("POST", "/api/v1/namespaces/default/services", body.as_bytes()).await?;
        let address = made.pointer("/spec/clusterIP").and_then(Value::as_str).context("the Service has no address")?;
        let answered = tokio::time::timeout(PATIENCE, first(address)).await;
        answered.with_context(|| format!("no answer of Service web-{number} within {PATIENCE:?}"))?;
        seen.push(start.elapsed().as_secs_f64() * 1000.0);
        let path = format!("/api/v1/namespaces/default/services/web-{number}");
        connection.json("DELETE", &path, b"").await?;
    }
    seen.sort_by(f64::total_cmp);
    Ok(seen[SERVICES / 2])
}

/// Returns with the first answer to one of the tries, of which one begins at each look.
async fn first(address: &str) {
    let mut look = tokio::time::interval(LOOK);
    let mut tries = JoinSet::new();
    loop {
        tokio::select! {
            _ = look.tick() => {
                let address = address.to_owned();
                tries.spawn(async move { answers(&address).await });
            }
            Some(answered) = tries.join_next() => if let Ok(true) = answered {
                return;
            },
        }
    }
}

async fn answers(address: &str) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect((address, 80)).await?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer.contains("here"))
    };
    matches!(tokio::time::timeout(TRY, ask).await, Ok(Ok(true)))
}
