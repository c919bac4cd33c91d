//! A few connections that all calls share. One that failed is dropped; one that the server closed is replaced.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::connection::Connection;
use super::reply::Failure;
use super::server::Server;

pub(super) struct Pool {
    server: Server,
    /// at most so many connections
    pub size: usize,
    state: Mutex<State>,
    returned: Condvar,
}

struct State {
    idle: Vec<Connection>,
    /// Calls that may still begin; those that have connections count, idle ones do not.
    turns: usize,
}

/// The right to one of the connections, given back when dropped.
struct Turn<'pool>(&'pool Pool);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().turns += 1;
        self.0.returned.notify_one();
    }
}

impl Pool {
    pub(super) fn new(server: Server, size: usize) -> Pool {
        let state = Mutex::new(State { idle: Vec::new(), turns: size });
        Pool { server, size, state, returned: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self) -> Turn<'_> {
        let mut state = self.lock();
        while state.turns == 0 {
            state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.turns -= 1;
        Turn(self)
    }

    fn idle(&self) -> Option<Connection> {
        self.lock().idle.pop()
    }

    /// An idle connection that is alive, or a new one.
    fn connection(&self) -> Result<Connection, Failure> {
        while let Some(mut connection) = self.idle() {
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
        let _turn = self.turn();
        let mut connection = self.connection()?;
        let result = work(&mut connection);
        if connection.is_good_after(&result) {
            self.lock().idle.push(connection);
        }
        result
    }
}
