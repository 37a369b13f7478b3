//! Tasks beside the one that starts them.

use futures::future::BoxFuture;
use tokio::task::JoinHandle;

/// `tokio::spawn`, of the future in a box: all tasks with the same outcome then share the code that runs them. Otherwise
/// each future's is compiled anew, in two forms, with a copy of what the future calls in each.
#[track_caller]
pub fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    let future: BoxFuture<'static, T> = Box::pin(future);
    tokio::spawn(future)
}
