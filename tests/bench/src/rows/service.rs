//! How soon a new Service answers.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::Image;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::side::Target;

/// Services that are made one after another; the median counts.
const SERVICES: usize = 31;
/// Ends a run that hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the address is tried; also what the figure may be wrong by.
const LOOK: Duration = Duration::from_millis(1);

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
        while !answers(address).await {
            ensure!(start.elapsed() < PATIENCE, "no answer of Service web-{number} after {PATIENCE:?}");
            tokio::time::sleep(LOOK).await;
        }
        seen.push(start.elapsed().as_secs_f64() * 1000.0);
        let path = format!("/api/v1/namespaces/default/services/web-{number}");
        connection.json("DELETE", &path, b"").await?;
    }
    seen.sort_by(f64::total_cmp);
    Ok(seen[SERVICES / 2])
}

async fn answers(address: &str) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect((address, 80)).await?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer.contains("here"))
    };
    // Where no rule leads yet, packets may go nowhere without a word.
    matches!(tokio::time::timeout(Duration::from_millis(200), ask).await, Ok(Ok(true)))
}
