//! A few connections that all calls share. One that failed is dropped; one that the server closed is replaced.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::turns::Turns;
use super::connection::Connection;
use super::reply::Failure;
use super::server::Server;

pub(super) struct Pool {
    server: Server,
    /// at most so many connections
    pub size: usize,
    idle: Mutex<Vec<Connection>>,
    /// Calls that may still begin; those that have connections count, idle ones do not.
    turns: Turns,
}

impl Pool {
    pub(super) fn new(server: Server, size: usize) -> Pool {
        Pool { server, size, idle: Mutex::default(), turns: Turns::new(size) }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The idle connection that was used last, if there is one.
    fn reused(&self) -> Option<Connection> {
        self.idle().pop()
    }

    /// An idle connection that is alive, or a new one.
    fn connection(&self) -> Result<Connection, Failure> {
        while let Some(mut connection) = self.reused() {
            if connection.is_alive() {
                return Ok(connection);
            }
        }
        self.server.connect()
    }

    /// Does something with a connection that is its own meanwhile. It must not ask for a second one.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let _turn = self.turns.take();
        let mut connection = self.connection()?;
        let result = work(&mut connection);
        if connection.is_good_after(&result) {
            self.idle().push(connection);
        }
        result
    }
}
