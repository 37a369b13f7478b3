//! Registries and archives that mean harm: endless, false, circular, or small with much in them. Each is refused with
//! its reason, costs little memory, and leaves nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{archive, file, isolated, layer};
use kubelet_runtime::cri::Auth;
use kubelet_runtime::images::{Store, digest_of};
use parking_lot::Mutex;
use serde_json::{Value, json};

const MIB: usize = 1 << 20;

/// What is answered to one request.
enum Reply {
    Whole(Vec<u8>),
    /// A length, and what is sent before the connection ends.
    Length(u64, Vec<u8>),
    /// The same bytes again and again, as long as they are taken.
    Endless(&'static str),
    Redirect(String),
    Challenge(String),
    Missing,
}

/// A server whose answers a test chooses by path, and what it was asked and gave.
struct Server {
    address: String,
    sent: AtomicUsize,
    /// Path and `Authorization` of each request.
    asked: Mutex<Vec<(String, String)>>,
}

impl Server {
    fn start(answer: impl Fn(&str, &str) -> Reply + Send + Sync + 'static) -> Arc<Server> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = Arc::new(Server { address, sent: AtomicUsize::new(0), asked: Mutex::default() });
        let (shared, answer) = (Arc::clone(&server), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (server, answer) = (Arc::clone(&shared), Arc::clone(&answer));
                // A client that hangs up is what most of these tests want.
                std::thread::spawn(move || drop(server.connection(stream, &*answer)));
            }
        });
        server
    }

    fn connection(&self, mut stream: TcpStream, answer: &dyn Fn(&str, &str) -> Reply) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        loop {
            let (mut path, mut authorization) = (String::new(), String::new());
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line)? == 0 {
                    return Ok(());
                }
                if let Some(asked) = line.strip_prefix("GET ") {
                    path = asked.split(' ').next().unwrap().to_owned();
                } else if line.to_ascii_lowercase().starts_with("authorization: ") {
                    authorization = line.split_once(": ").unwrap().1.trim().to_owned();
                } else if line.trim().is_empty() {
                    break;
                }
            }
            let reply = answer(&path, &authorization);
            self.asked.lock().push((path, authorization));
            let mut say = |text: String| stream.write_all(text.as_bytes());
            match reply {
                Reply::Whole(bytes) => {
                    say(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", bytes.len()))?;
                    stream.write_all(&bytes)?;
                }
                Reply::Length(length, bytes) => {
                    say(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n"))?;
                    return stream.write_all(&bytes);
                }
                Reply::Endless(status) => {
                    say(format!("HTTP/1.1 {status}\r\ntransfer-encoding: chunked\r\n\r\n"))?;
                    let chunk = [b"10000\r\n".as_slice(), &vec![b' '; 0x10000], b"\r\n"].concat();
                    loop {
                        stream.write_all(&chunk)?;
                        self.sent.fetch_add(chunk.len(), Ordering::Relaxed);
                    }
                }
                Reply::Redirect(to) => {
                    say(format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n"))?;
                }
                Reply::Challenge(value) => {
                    let head = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nwww-authenticate";
                    say(format!("{head}: {value}\r\n\r\n"))?;
                }
                Reply::Missing => say("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".into())?,
            }
        }
    }
}

/// A small image: its manifest, config and gzipped layer.
#[derive(Clone)]
struct Image {
    manifest: Vec<u8>,
    config: Vec<u8>,
    layer: Vec<u8>,
}

fn descriptor(bytes: &[u8], size: usize) -> Value {
    json!({ "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of(bytes), "size": size })
}

impl Image {
    /// `sizes` are what the manifest says of config and layer; the real ones where there is none.
    fn new(sizes: (Option<usize>, Option<usize>)) -> Image {
        let plain = layer(&[file("f", &[b'x'; 5000], 0o644)]);
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&plain).unwrap();
        let packed = packed.finish().unwrap();
        let rootfs = json!({ "type": "layers", "diff_ids": [digest_of(&plain)] });
        let config = json!({ "os": "linux", "architecture": "amd64", "rootfs": rootfs }).to_string().into_bytes();
        let manifest = json!({
            "schemaVersion": 2,
            "config": descriptor(&config, sizes.0.unwrap_or(config.len())),
            "layers": [descriptor(&packed, sizes.1.unwrap_or(packed.len()))],
        });
        Image { manifest: manifest.to_string().into_bytes(), config, layer: packed }
    }

    /// What an honest registry answers.
    fn reply(&self, path: &str) -> Reply {
        let name = path.rsplit('/').next().unwrap();
        let all = [&self.config, &self.layer];
        match all.into_iter().find(|bytes| digest_of(bytes) == name) {
            Some(bytes) => Reply::Whole(bytes.clone()),
            None if path.contains("/manifests/") => Reply::Whole(self.manifest.clone()),
            None => Reply::Missing,
        }
    }

    fn is_layer(&self, path: &str) -> bool {
        path.ends_with(&digest_of(&self.layer))
    }

    fn is_config(&self, path: &str) -> bool {
        path.ends_with(&digest_of(&self.config))
    }
}

/// Pulls what must not be taken; the reason.
async fn refused(server: &Server, auth: Option<Auth>) -> String {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(directory.path(), Vec::new()).unwrap());
    let pulled = store.pull(&format!("{}/library/app:1", server.address), auth).await;
    let error = pulled.expect_err("it was taken").to_string();
    assert!(store.all().unwrap().by_id.is_empty(), "{error}");
    for folder in ["layers", "tmp"] {
        assert_eq!(common::names(&directory.path().join(folder)), Vec::<String>::new(), "{error}");
    }
    error
}

fn user() -> Option<Auth> {
    Some(Auth { username: "user".into(), password: "secret".into(), registry_token: String::new() })
}

#[test]
fn endless_documents_are_cut() {
    isolated(|| async {
        let image = Image::new((None, None));
        let index = json!({ "manifests": [{
            "digest": digest_of(b"x"), "size": 1, "platform": { "os": "linux", "architecture": "amd64" },
        }] });
        let cases: [(&str, fn(&str, &Image) -> bool, &str); 3] = [
            ("manifest", |path, _| path.contains("/manifests/1"), "the manifest is larger than 4194304 bytes"),
            ("child", |path, _| path.contains("/manifests/sha256:"), "the manifest is larger than 4194304 bytes"),
            ("config", |path, image| image.is_config(path), "the config is larger than 8388608 bytes"),
        ];
        for (case, is_endless, said) in cases {
            let (image, index) = (image.clone(), index.to_string().into_bytes());
            let server = Server::start(move |path, _| match path {
                path if is_endless(path, &image) => Reply::Endless("200 OK"),
                path if case == "child" && path.contains("/manifests/1") => Reply::Whole(index.clone()),
                path => image.reply(path),
            });
            let error = refused(&server, None).await;
            assert!(error.contains(said), "{case}: {error}");
            assert!(server.sent.load(Ordering::Relaxed) < 24 * MIB, "{case}");
        }
    });
}

#[test]
fn endless_tokens_and_refusals_are_cut() {
    isolated(|| async {
        for (status, said) in [
            ("200 OK", "the token is larger than 1048576 bytes"),
            ("403 Forbidden", "failed to fetch a token: 403 Forbidden"),
        ] {
            let tokens = Server::start(move |_, _| Reply::Endless(status));
            let realm = format!("Bearer realm=\"http://{}/token\",service=\"r\"", tokens.address);
            let server = Server::start(move |_, _| Reply::Challenge(realm.clone()));
            let error = refused(&server, user()).await;
            assert!(error.contains(said), "{error}");
            assert!(tokens.sent.load(Ordering::Relaxed) < 24 * MIB);
        }
        let server = Server::start(|_, _| Reply::Endless("500 Internal Server Error"));
        let error = refused(&server, None).await;
        assert!(error.contains("500 Internal Server Error"), "{error}");
        assert!(server.sent.load(Ordering::Relaxed) < 24 * MIB);
    });
}

#[test]
fn lengths_that_are_false_are_refused() {
    isolated(|| async {
        let honest = Image::new((None, None));
        let (config, packed) = (honest.config.len(), honest.layer.len());
        // What is said of the sizes, and how layers and configs are answered.
        type Answer = fn(&Image, &[u8]) -> Reply;
        let whole: Answer = |_, bytes| Reply::Whole(bytes.to_vec());
        let cases: [(&str, Image, bool, Answer, &str); 7] = [
            ("huge manifest", honest.clone(), false, whole, "the manifest is larger than 4194304 bytes"),
            ("long layer", Image::new((None, Some(packed - 1))), true, whole, "the manifest says"),
            ("short layer", Image::new((None, Some(packed + 1))), true, whole, "the manifest says"),
            ("long config", Image::new((Some(config - 1), None)), true, whole, "the manifest says"),
            (
                "huge config",
                Image::new((Some(9 * MIB), None)),
                true,
                |_, bytes| Reply::Length(9 << 20, bytes.to_vec()),
                "the config is larger than 8388608 bytes",
            ),
            (
                "torn layer",
                honest.clone(),
                true,
                |_, bytes| Reply::Length(bytes.len() as u64, bytes[..bytes.len() / 2].to_vec()),
                "failed to fetch layer",
            ),
            ("endless layer", honest.clone(), true, |_, _| Reply::Endless("200 OK"), "sends more than the"),
        ];
        for (case, image, of_blobs, answer, said) in cases {
            let shown = image.clone();
            let server = Server::start(move |path, _| match image.reply(path) {
                Reply::Whole(_) if !of_blobs => Reply::Length(5 << 30, b"{".to_vec()),
                Reply::Whole(bytes) if image.is_layer(path) && case.contains("layer") => answer(&image, &bytes),
                Reply::Whole(bytes) if image.is_config(path) && case.contains("config") => answer(&image, &bytes),
                other => other,
            });
            let error = refused(&server, None).await;
            assert!(error.contains(said), "{case}: {error}");
            assert!(server.sent.load(Ordering::Relaxed) < 24 * MIB, "{case}");
            assert!(shown.manifest.len() < MIB);
        }
    });
}

#[test]
fn redirects_end_and_take_no_credentials_along() {
    isolated(|| async {
        let server = Server::start(|path, _| Reply::Redirect(path.to_owned()));
        let error = refused(&server, None).await;
        assert!(error.contains("redirect"), "{error}");
        assert!(server.asked.lock().len() <= 12, "{}", server.asked.lock().len());
        // Blobs lie elsewhere, as with the large registries: there the registry's token is nobody's business.
        let image = Image::new((None, None));
        let (blobs, elsewhere) = (image.clone(), image.clone());
        let store_of_blobs = Server::start(move |path, _| elsewhere.reply(path));
        let there = store_of_blobs.address.clone();
        let registry = Server::start(move |path, authorization| match path {
            _ if authorization != "Basic dXNlcjpzZWNyZXQ=" => Reply::Challenge("Basic realm=\"r\"".into()),
            path if path.contains("/blobs/") => Reply::Redirect(format!("http://{there}{path}")),
            path => blobs.reply(path),
        });
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(directory.path(), Vec::new()).unwrap());
        store.pull(&format!("{}/library/app:1", registry.address), user()).await.unwrap();
        let asked = store_of_blobs.asked.lock();
        assert_eq!(asked.len(), 2);
        assert!(asked.iter().all(|(_, authorization)| authorization.is_empty()), "{asked:?}");
    });
}

fn load(directory: &std::path::Path, bytes: &[u8]) -> String {
    let store = Store::open(&directory.join("runtime"), Vec::new()).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let error = store.load(file.path()).expect_err("it was taken").to_string();
    assert!(store.all().unwrap().by_id.is_empty(), "{error}");
    for folder in ["layers", "tmp"] {
        assert_eq!(common::names(&directory.join("runtime").join(folder)), Vec::<String>::new(), "{error}");
    }
    error
}

/// A tar of one entry, whose header says more than `content` alone.
fn entry(kind: tar::EntryType, size: u64, content: impl Read, change: impl FnOnce(&mut tar::Header)) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[0] = b'f';
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    change(&mut header);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, content).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn headers_do_not_fill_the_memory() {
    let directory = tempfile::tempdir().unwrap();
    for kind in [tar::EntryType::GNULongName, tar::EntryType::GNULongLink, tar::EntryType::XHeader] {
        let bomb = entry(kind, 3 << 20, std::io::repeat(b'a').take(3 << 20), |_| {});
        let said = "the headers of an entry are larger than 1048576 bytes";
        let error = load(directory.path(), &archive(std::slice::from_ref(&bomb), json!({}), &["t:1"]));
        assert!(error.contains(said), "in a layer: {error}");
        let error = load(directory.path(), &bomb);
        assert!(error.contains(said), "in an archive: {error}");
    }
    // What is no file and has content all the same is passed over, however long.
    let folder = entry(tar::EntryType::Directory, 3 << 20, std::io::repeat(b'a').take(3 << 20), |_| {});
    let store = Store::open(&directory.path().join("runtime"), Vec::new()).unwrap();
    std::fs::write(directory.path().join("a.tar"), archive(&[folder], json!({}), &["t:1"])).unwrap();
    store.load(&directory.path().join("a.tar")).unwrap();
}

/// Bytes that the process holds.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn bombs_leave_room_on_the_disk_and_in_memory() {
    use nix::mount::{MsFlags, mount};
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let disk = directory.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    mount(Some("disk"), &disk, Some("tmpfs"), MsFlags::empty(), Some("size=128m")).unwrap();
    let zeros = 256 << 20;
    let bomb = |pack: &dyn Fn(&mut dyn Read) -> Vec<u8>| {
        let plain = |path: &str| {
            let mut header = tar::Header::new_gnu();
            header.set_path(path).unwrap();
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(zeros);
            header.set_cksum();
            header
        };
        let header = plain("f");
        pack(&mut header.as_bytes().as_slice().chain(std::io::repeat(0).take(zeros + 1024)))
    };
    let gzip = bomb(&|plain| {
        let mut packed = Vec::new();
        flate2::read::GzEncoder::new(plain, flate2::Compression::fast()).read_to_end(&mut packed).unwrap();
        packed
    });
    let zstd = bomb(&|plain| zstd::encode_all(plain, 1).unwrap());
    let before = resident();
    for packed in [gzip, zstd] {
        assert!(packed.len() < 16 * MIB);
        // As a layer, whose digest nobody gets to check, and as the whole archive.
        let error = load(&disk, &archive(std::slice::from_ref(&packed), json!({}), &["t:1"]));
        assert!(error.contains("the disk is full: less than 6 MiB would be left free"), "{error}");
        let error = load(&disk, &packed);
        assert!(error.contains("the disk is full: less than 6 MiB would be left free"), "{error}");
    }
    assert!(resident() < before + 128 * MIB, "{before} and {}", resident());
    // A file with a hole that is larger than any layer.
    let size: u64 = 1 << 40;
    let sparse = entry(tar::EntryType::GNUSparse, 512, [1; 512].as_slice(), |header| {
        let gnu = header.as_gnu_mut().unwrap();
        gnu.set_real_size(size);
        gnu.sparse[0].set_offset(size - 512);
        gnu.sparse[0].set_length(512);
    });
    let error = load(&disk, &archive(&[sparse], json!({}), &["t:1"]));
    assert!(error.contains("the layer is too large"), "{error}");
    // A window of 128 MiB.
    let mut wide = zstd::Encoder::new(Vec::new(), 1).unwrap();
    wide.window_log(27).unwrap();
    wide.write_all(&layer(&[file("f", b"x", 0o644)])).unwrap();
    let wide = wide.finish().unwrap();
    let error = load(&disk, &archive(&[wide], json!({}), &["t:1"]));
    assert!(error.contains("too much memory"), "{error}");
}
