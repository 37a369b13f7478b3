//! Network namespaces, links between them, and servers in them, made and removed with the test. Needs root.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};

/// How long anything may take that is expected to happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A network namespace; it goes when nothing in it is open any more.
pub struct Netns(File);

impl Netns {
    /// A new one, with loopback up and no route out.
    pub fn new() -> Self {
        let file = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("unshare: needs root");
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        let ns = Self(file.join().unwrap());
        ns.ip("link set lo up");
        ns.ip("route add blackhole default");
        ns
    }

    /// Runs a closure on a thread of its own within the namespace.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter();
                work()
            });
            match thread.join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Moves the calling thread into the namespace.
    pub fn enter(&self) {
        setns(self.0.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
    }

    /// Runs an `ip` command.
    pub fn ip(&self, args: &str) {
        self.command("ip", args);
    }

    /// Runs a program and gives its output.
    pub fn command(&self, program: &str, args: &str) -> String {
        let output = self.run(|| Command::new(program).args(args.split_whitespace()).output().unwrap());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {args}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Writes a sysctl of the namespace.
    pub fn sysctl(&self, name: &str, value: &str) {
        self.run(|| std::fs::write(format!("/proc/sys/{name}"), value).unwrap());
    }

    /// What `ip` takes for this namespace.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// A pair of links, one end here and one in `other`.
    pub fn link(&self, name: &str, other: &Netns, other_name: &str) {
        self.ip(&format!("link add {name} type veth peer name {other_name} netns {}", other.path()));
        self.ip(&format!("link set {name} up"));
        other.ip(&format!("link set {other_name} up"));
    }

    /// Makes a Pod of `node`: a namespace with one address, joined without a bridge.
    pub fn pod(node: &Netns, link: &str, addr: &str, gateway: &str) -> Netns {
        let pod = Netns::new();
        node.link(link, &pod, "eth0");
        node.ip(&format!("route add {addr}/32 dev {link}"));
        pod.ip("route del blackhole default");
        pod.ip(&format!("addr add {addr}/32 dev eth0"));
        pod.ip(&format!("route add {gateway}/32 dev eth0"));
        pod.ip(&format!("route add default via {gateway} dev eth0"));
        pod
    }

    /// A TCP and a UDP server on `port` that answer with their name and the client's address.
    pub fn serve(&self, name: &str, port: u16) {
        let (listener, socket) =
            self.run(|| (TcpListener::bind(("0.0.0.0", port)).unwrap(), UdpSocket::bind(("0.0.0.0", port)).unwrap()));
        let tcp_name = name.to_owned();
        std::thread::spawn(move || {
            while let Ok((mut stream, peer)) = listener.accept() {
                // A client that went away is its own affair.
                let _ = stream.write_all(format!("{tcp_name} {}", peer.ip()).as_bytes());
            }
        });
        let udp_name = name.to_owned();
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                // A client that went away is its own affair.
                let _ = socket.send_to(format!("{udp_name} {}", peer.ip()).as_bytes(), peer);
            }
        });
    }

    /// Asks a TCP server once.
    pub fn ask(&self, to: &str) -> std::io::Result<Reply> {
        self.ask_within(to, Duration::from_secs(2))
    }

    /// Asks a TCP server once, with little patience.
    pub fn ask_within(&self, to: &str, patience: Duration) -> std::io::Result<Reply> {
        let to: SocketAddr = to.parse().unwrap();
        self.run(|| {
            let mut stream = TcpStream::connect_timeout(&to, patience)?;
            stream.set_read_timeout(Some(patience))?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(Reply::parse(&text))
        })
    }

    /// A UDP socket that sends to `to`.
    pub fn udp(&self, to: &str) -> Udp {
        self.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect(to).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            Udp(socket)
        })
    }
}

/// A connected UDP socket: all its packets are one connection to the kernel.
pub struct Udp(UdpSocket);

impl Udp {
    pub fn ask(&self) -> std::io::Result<Reply> {
        self.0.send(b"?")?;
        let mut buffer = [0; 64];
        let len = self.0.recv(&mut buffer)?;
        Ok(Reply::parse(&String::from_utf8_lossy(&buffer[..len])))
    }
}

/// Who answered, and whom they saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub server: String,
    pub client: IpAddr,
}

impl Reply {
    fn parse(text: &str) -> Self {
        let (server, client) = text.split_once(' ').unwrap_or_else(|| panic!("unexpected answer {text:?}"));
        Self { server: server.to_owned(), client: client.parse().unwrap() }
    }
}

/// Repeats `check` until it is true; fails with what was waited for after [`PATIENCE`].
#[track_caller]
pub fn eventually(what: &str, mut check: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !check() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
    start.elapsed()
}

/// A running proxy in a namespace.
pub struct Proxy(Option<(tokio_util::sync::CancellationToken, std::thread::JoinHandle<()>)>);

impl Proxy {
    pub fn start(node: &Netns, config: kube_proxy::Config, api: &super::api::FakeApi) -> Self {
        let cancel = tokio_util::sync::CancellationToken::new();
        let (token, api) = (cancel.clone(), api.clone());
        let thread = node.run(|| {
            std::thread::spawn(move || {
                block_on(async move { kube_proxy::run(config, api.client(), token).await }).unwrap();
            })
        });
        Self(Some((cancel, thread)))
    }

    pub fn stop(&mut self) {
        if let Some((cancel, thread)) = self.0.take() {
            cancel.cancel();
            thread.join().unwrap();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs a future on a runtime of the calling thread, so that it stays in the thread's namespace.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
