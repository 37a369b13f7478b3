//! Processes that the tests start, and the certificates that they need.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use testkit::wait_for;

pub const COX: &str = env!("CARGO_BIN_EXE_cox");
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A process that ends with the test.
pub struct Service(Child);

impl Service {
    pub fn start(command: &mut Command, log: &Path) -> Service {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let child = command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).spawn();
        Service(child.unwrap_or_else(|error| panic!("start {command:?}: {error}")))
    }

    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.0.id().to_string()]).status().unwrap().success());
    }

    /// Asks it to end, and says whether it did so well.
    pub fn stop(mut self) -> bool {
        self.signal("-TERM");
        self.0.wait().unwrap().success()
    }

    /// The power is cut.
    pub fn kill(mut self) {
        self.signal("-KILL");
        self.0.wait().unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port of this machine that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn cox_store(dir: &Path, port: u16) -> Command {
    let mut command = Command::new(COX);
    command.args(["store", "--listen-client-urls", &format!("http://127.0.0.1:{port}")]);
    command.arg("--data-dir").arg(dir).env("COX_LOG", "info");
    command
}

/// etcd's own, from Debian.
pub fn real_etcd(dir: &Path, port: u16) -> Command {
    let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{}", free_port()));
    let mut command = Command::new("etcd");
    command.arg("--data-dir").arg(dir);
    command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
    command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    command.args(["--initial-cluster", &format!("default={peer}")]);
    command
}

pub fn etcdctl(endpoint: &str) -> Command {
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").args([
        "--endpoints",
        endpoint,
        "--dial-timeout",
        "20s",
        "--command-timeout",
        "20s",
    ]);
    command
}

pub fn wait_healthy(mut health: impl FnMut() -> Command, log: &Path) {
    let healthy = wait_for("the store to answer", PATIENCE, || {
        let done = health().stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        Ok(done.success().then_some(()))
    });
    healthy.unwrap_or_else(|error| panic!("{error:#}\n{}", std::fs::read_to_string(log).unwrap_or_default()));
}

/// A certificate and its key, in files.
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// An authority, its file, and what it signs.
pub struct Authority {
    dir: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
    pub file: PathBuf,
}

impl Authority {
    pub fn new(dir: &Path, name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = dir.join(format!("{name}.crt"));
        std::fs::write(&file, issuer.pem()).unwrap();
        Authority { dir: dir.to_owned(), issuer, file }
    }

    pub fn pair(&self, name: &str) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let pair =
            Pair { certificate: self.dir.join(format!("{name}.crt")), key: self.dir.join(format!("{name}.key")) };
        std::fs::write(&pair.certificate, certificate.pem()).unwrap();
        std::fs::write(&pair.key, key.serialize_pem()).unwrap();
        pair
    }
}
