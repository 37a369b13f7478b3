//! Tasks beside the one that starts them.

use futures::future::BoxFuture;
use tokio::task::JoinHandle;

/// `tokio::spawn`, of the future in a box: all tasks with the same outcome then share the code that runs them.
/// Otherwise it is compiled for each future, in two forms, with a copy in each of what the future calls.
#[track_caller]
pub fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    let future: BoxFuture<'static, T> = Box::pin(future);
    tokio::spawn(future)
}
