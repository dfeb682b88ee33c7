//! A way to a server that can be cut at a word: before the server hears it, or before its answer comes back.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What happens to connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Way {
    /// Everything passes.
    #[default]
    Open,
    /// A connection ends as soon as it is there.
    Shut,
    /// It ends when the client says this, which the server does not hear.
    CutBefore(&'static str),
    /// It ends when the client says this; the server hears it, and its answer is lost.
    CutAfter(&'static str),
}

/// The way.
pub(crate) struct Tap {
    pub(crate) port: u16,
    way: Arc<Mutex<Way>>,
    task: JoinHandle<()>,
}

impl Tap {
    pub(crate) async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let way = Arc::new(Mutex::new(Way::Open));
        let of_task = Arc::clone(&way);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let way = of_task.lock().unwrap_or_else(PoisonError::into_inner).clone();
                tokio::spawn(pass(client, server, way));
            }
        });
        Self { port, way, task }
    }

    pub(crate) fn set(&self, way: Way) {
        *self.way.lock().unwrap_or_else(PoisonError::into_inner) = way;
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(mut client: TcpStream, server: u16, way: Way) {
    if way == Way::Shut {
        return;
    }
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    let (mut said, mut answered) = ([0_u8; 16_384], [0_u8; 16_384]);
    loop {
        tokio::select! {
            read = client.read(&mut said) => {
                let Some(said) = read.ok().filter(|count| *count > 0).and_then(|count| said.get(..count)) else { return };
                let hears = |word: &str| said.windows(word.len()).any(|window| window == word.as_bytes());
                match way {
                    Way::CutBefore(word) if hears(word) => return,
                    Way::CutAfter(word) if hears(word) => {
                        // The server's answer shows that it has heard; nobody else sees it.
                        if server.write_all(said).await.is_ok() {
                            hears_the_rest(&mut client, &mut server).await;
                        }
                        return;
                    }
                    Way::Open | Way::Shut | Way::CutBefore(_) | Way::CutAfter(_) => {}
                }
                if server.write_all(said).await.is_err() { return }
            }
            read = server.read(&mut answered) => {
                let Some(answered) = read.ok().filter(|count| *count > 0).and_then(|count| answered.get(..count)) else { return };
                if client.write_all(answered).await.is_err() { return }
            }
        }
    }
}

/// Passes on what the client still says, until the server answers.
async fn hears_the_rest(client: &mut TcpStream, server: &mut TcpStream) {
    let (mut said, mut answered) = ([0_u8; 16_384], [0_u8; 16_384]);
    loop {
        tokio::select! {
            _answer = server.read(&mut answered) => return,
            read = client.read(&mut said) => {
                let Some(said) = read.ok().filter(|count| *count > 0).and_then(|count| said.get(..count)) else { return };
                if server.write_all(said).await.is_err() { return }
            }
        }
    }
}
