//! What the servers of these tests share: a listener that hands its connections, one at a time, to a function.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// Serves until the test ends. `serve` gets each connection and where to put what it heard.
pub fn serve<T: Send + 'static>(
    mut serve: impl FnMut(TcpStream, &Sender<T>) + Send + 'static,
) -> (SocketAddr, Receiver<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (heard, receiver) = channel();
    thread::spawn(move || {
        for connection in listener.incoming() {
            serve(connection.unwrap(), &heard);
        }
    });
    (address, receiver)
}

/// A server that accepts and says nothing.
pub fn silent() -> SocketAddr {
    let mut kept = Vec::new();
    serve(move |connection, _: &Sender<()>| kept.push(connection)).0
}

/// An address where nobody listens.
pub fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
