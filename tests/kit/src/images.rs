//! Images that several tests run.

use anyhow::Result;

use crate::image::Image;

/// busybox, `shell:dev`.
pub fn shell() -> Result<Image> {
    Ok(Image::named("docker.io/library/shell:dev").busybox()?.command(&["sh"]))
}

/// Serves its host's name over HTTP on the port that is its argument, `web:dev` (and `web:two`).
pub fn web() -> Result<Image> {
    let script = "mkdir -p /tmp/www && hostname > /tmp/www/index.html && exec httpd -f -p ${0:-8080} -h /tmp/www";
    let image = Image::named("docker.io/library/web:dev").tag("docker.io/library/web:two");
    Ok(image.busybox()?.entrypoint(&["/bin/sh", "-c", script]))
}
