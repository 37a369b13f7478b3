//! The app of the hello image: answers every HTTP request on port 8080 with its host's name.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

fn main() -> std::io::Result<()> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let body = format!("Hello from {}\n", name.trim());
    let listener = TcpListener::bind(("0.0.0.0", 8080))?;
    println!("listening on port 8080");
    for connection in listener.incoming() {
        // One slow or broken client is no reason to end.
        if let Err(error) = connection.and_then(|stream| answer(stream, &body)) {
            println!("{error}");
        }
    }
    Ok(())
}

/// Reads a request's head and answers it.
fn answer(mut stream: TcpStream, body: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
    }
    println!("{}", request.trim());
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}
