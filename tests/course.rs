//! Tests of the manifests and command lines of a Kubernetes course, each doing what its line says. Images come from a
//! real registry on loopback, asked in docker.io's place.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::Path;

use testkit::cluster::{Cluster, PATIENCE};
use testkit::net::run;
use testkit::registry::Registry;
use testkit::script::Script;
use testkit::{Image, wait_for};

const COX: &str = env!("CARGO_BIN_EXE_cox");
const MIRROR: &str = "--registry-mirror=docker.io=http://127.0.0.1:5000";

/// A stand-in for an image of the course: serves its host's name on a port.
fn web(port: u16) -> Image {
    let script = format!("mkdir -p /tmp/www && hostname > /tmp/www/index.html && exec httpd -f -p {port} -h /tmp/www");
    Image::named("docker.io/library/web:dev").busybox().unwrap().entrypoint(&["/bin/sh", "-c", &script])
}

fn manifest(name: &str) -> String {
    format!("{}/tests/manifests/{name}", env!("CARGO_MANIFEST_DIR"))
}

struct Course {
    cluster: Cluster,
    _registry: Registry,
}

fn course() -> Course {
    let cluster = Cluster::up(COX, &[MIRROR]).unwrap();
    let registry = Registry::start(&cluster.network, cluster.home()).unwrap();
    for name in ["library/nginx:latest", "library/php:7.0-apache"] {
        registry.push(&cluster.network, &web(80), name, cluster.home()).unwrap();
    }
    Course { cluster, _registry: registry }
}

fn phase_is<'a>(phase: &'a str) -> impl Fn(&serde_json::Value) -> bool + 'a {
    move |pod| pod["status"]["phase"] == phase
}

#[test]
fn pods_deployments_and_services_of_the_course() {
    let course = course();
    let cluster = &course.cluster;
    let info = cluster.kubectl(&["cluster-info"]).unwrap();
    assert!(info.contains(&format!("https://{}:6443", cluster.network.ip)), "{info}");

    cluster.kubectl(&["run", "mi-servidor", "--image=nginx"]).unwrap();
    cluster.kubectl(&["apply", "-f", &manifest("pod.yml")]).unwrap();
    for pod in ["mi-servidor", "mi-pod"] {
        cluster.wait(&["pod", pod], "Running", phase_is("Running")).unwrap();
    }
    let namespaces = cluster.kubectl(&["get", "namespaces", "-o", "name"]).unwrap();
    for expected in ["default", "kube-system", "kube-public"] {
        assert!(namespaces.contains(&format!("namespace/{expected}\n")), "{namespaces}");
    }
    cluster.kubectl(&["create", "namespace", "mi-namespace"]).unwrap();
    cluster.kubectl(&["run", "mi-pod", "--image=nginx", "-n", "mi-namespace"]).unwrap();
    cluster.wait(&["pod", "mi-pod", "-n", "mi-namespace"], "Running", phase_is("Running")).unwrap();
    let everywhere = cluster.kubectl(&["get", "pods", "-A"]).unwrap();
    assert!(everywhere.contains("mi-namespace"), "{everywhere}");
    cluster.kubectl(&["delete", "pod", "mi-servidor"]).unwrap();

    cluster.kubectl(&["apply", "-f", &manifest("deployment.yml")]).unwrap();
    cluster
        .wait(&["deployment", "nginx-deployment"], "3 available", |d| d["status"]["availableReplicas"] == 3)
        .unwrap();
    cluster.kubectl(&["scale", "deployment", "nginx-deployment", "--replicas=5"]).unwrap();
    cluster
        .wait(&["deployment", "nginx-deployment"], "5 available", |d| d["status"]["availableReplicas"] == 5)
        .unwrap();
    cluster.kubectl(&["apply", "-f", &manifest("service-nodeport.yml")]).unwrap();
    let url = format!("http://{}:30010/", cluster.network.ip);
    let mut heard = BTreeSet::new();
    wait_for("five replicas to answer in turn", PATIENCE, || {
        let mut curl = cluster.network.command("curl");
        heard.insert(run(curl.args(["--silent", "--fail", "--max-time", "5", &url]))?);
        Ok((heard.len() == 5).then_some(()))
    })
    .unwrap();
    cluster.kubectl(&["delete", "namespace", "mi-namespace"]).unwrap();
    let gone = cluster.kubectl_fails(&["get", "namespace", "mi-namespace"]).unwrap();
    assert!(gone.contains("(NotFound)"), "{gone}");
}

#[test]
fn strategies_sets_and_stored_kinds_of_the_course() {
    let course = course();
    let cluster = &course.cluster;
    for name in ["configmap.yml", "secret.yml", "ingress.yml", "replicaset.yml"] {
        cluster.kubectl(&["apply", "-f", &manifest(name)]).unwrap();
    }
    let ingress = cluster.kubectl(&["get", "ingress"]).unwrap();
    assert!(ingress.contains("mi-prueba-ingress.com"), "{ingress}");
    cluster.wait(&["replicaset", "nginx-replicaset"], "3 ready", |set| set["status"]["readyReplicas"] == 3).unwrap();
    // A Deployment with the same selector would adopt it.
    cluster.kubectl(&["delete", "replicaset", "nginx-replicaset"]).unwrap();
    cluster.kubectl(&["apply", "-f", &manifest("deployment-recreate.yml")]).unwrap();
    cluster
        .wait(&["deployment", "nginx-deployment"], "3 available", |d| d["status"]["availableReplicas"] == 3)
        .unwrap();
    cluster.kubectl(&["apply", "-f", &manifest("deployment-rolling.yml")]).unwrap();
    cluster.kubectl(&["rollout", "restart", "deployment", "nginx-deployment"]).unwrap();
    cluster.kubectl(&["rollout", "status", "deployment", "nginx-deployment", "--timeout=120s"]).unwrap();
    let history = cluster.kubectl(&["rollout", "history", "deployment", "nginx-deployment"]).unwrap();
    assert!(history.contains("\n2 "), "{history}");
}

#[test]
fn every_command_line_of_the_course_with_kubectl_and_with_cox() {
    let course = course();
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests");
    let mut script = Script::new(&course.cluster, Path::new(COX), &files, ["apple", "lemon"]).unwrap();
    script.run("course.lines", include_str!("kubectl/course.lines")).unwrap();
    script.finish().unwrap();
}

#[test]
fn images_that_are_never_pulled_and_load_balancers_of_the_course() {
    let cluster = Cluster::up(COX, &[]).unwrap();
    cluster.kubectl(&["apply", "-f", &manifest("node-deployment.yml")]).unwrap();
    let waits = |pods: &serde_json::Value| pods.to_string().contains("ErrImageNeverPull");
    cluster.wait(&["pods", "-l", "app=node-server"], "ErrImageNeverPull", waits).unwrap();
    // The image comes, and the Pods run without being made anew.
    let servers = web(8080).tag("docker.io/library/node-server:latest").tag("docker.io/library/mysql:latest");
    cluster.load(&servers).unwrap();
    let available = |d: &serde_json::Value| d["status"]["availableReplicas"] == 5;
    cluster.wait(&["deployment", "node-deployment"], "5 available", available).unwrap();
    cluster.kubectl(&["expose", "deployment", "node-deployment", "--type=LoadBalancer"]).unwrap();
    assert_eq!(hosts_behind(&cluster, "node-deployment", 8080, 5).len(), 5);

    // The same kind of Service by its manifest, before Pods with another port.
    cluster.load(&web(80).tag("docker.io/library/nginx:latest")).unwrap();
    let deployment = std::fs::read_to_string(manifest("deployment.yml")).unwrap();
    cluster.apply(&deployment.replace("image: nginx", "imagePullPolicy: Never\n          image: nginx")).unwrap();
    cluster.kubectl(&["delete", "service", "node-deployment"]).unwrap();
    cluster.kubectl(&["apply", "-f", &manifest("service-loadbalancer.yml")]).unwrap();
    assert_eq!(hosts_behind(&cluster, "nginx-service", 8080, 3).len(), 3);

    // A folder of the machine in a container, read and written.
    let folder = cluster.home().join("mysql-init");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("login.sql"), "CREATE TABLE login;\n").unwrap();
    let pod = std::fs::read_to_string(manifest("mysql-hostpath-pod.yml")).unwrap();
    cluster.apply(&pod.replace("/mysql-init", &folder.to_string_lossy())).unwrap();
    cluster.wait_ready("mysqlserver").unwrap();
    let script =
        "cat /docker-entrypoint-initdb.d/login.sql; echo $MYSQL_DATABASE $(hostname) > /docker-entrypoint-initdb.d/out";
    assert_eq!(cluster.kubectl(&["exec", "mysqlserver", "--", "sh", "-c", script]).unwrap(), "CREATE TABLE login;\n");
    assert_eq!(std::fs::read_to_string(folder.join("out")).unwrap(), "login mysqlserver\n");
}

/// Asks a Service's external address until so many hosts have answered.
fn hosts_behind(cluster: &Cluster, service: &str, port: u16, count: usize) -> BTreeSet<String> {
    let ready = |s: &serde_json::Value| s["status"]["loadBalancer"]["ingress"][0]["ip"].is_string();
    let service = cluster.wait(&["service", service], "an external address", ready).unwrap();
    let ip = service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str().unwrap();
    let mut heard = BTreeSet::new();
    wait_for("the replicas to answer in turn", PATIENCE, || {
        let mut curl = cluster.network.command("curl");
        heard.insert(run(curl.args(["--silent", "--fail", "--max-time", "5", &format!("http://{ip}:{port}/")]))?);
        Ok((heard.len() >= count).then_some(()))
    })
    .unwrap();
    heard
}
