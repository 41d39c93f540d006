//! "Sold out" as a file next to the sale's log, for a web server in front that cannot ask. It
//! exists while everything that the open round offers is sold out and no place on a waitlist is
//! left; it may be a moment late, both ways.

use crate::data::sold_out_file;
use contracts::{SaleId, SaleView};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

/// How late the file may be; and how long after the first sale is set up it may be looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const LOOK_EVERY_IDLE: Duration = Duration::from_secs(1);

/// Keeps the files of all sales as `views` says, for as long as it is polled.
pub(crate) async fn keep(dir: PathBuf, views: impl Fn() -> Vec<Arc<SaleView>>) {
    let mut shown: HashMap<SaleId, bool> = HashMap::new();
    loop {
        let views = views();
        let every = if views.is_empty() { LOOK_EVERY_IDLE } else { LOOK_EVERY };
        for view in views {
            let sold_out = view.is_sold_out();
            if shown.get(&view.sale) == Some(&sold_out) {
                continue;
            }
            let (at, sale) = (dir.clone(), Arc::clone(&view));
            let done = tokio::task::spawn_blocking(move || show(&at, &sale)).await;
            match done.map_err(io::Error::other).flatten() {
                Ok(()) => drop(shown.insert(view.sale.clone(), sold_out)),
                Err(error) => tracing::warn!(
                    sale = %view.sale, %error, "the file that says \"sold out\" is not as it should be: trying again"
                ),
            }
        }
        tokio::time::sleep(every).await;
    }
}

/// Removes all files: the current state is shown again, and while it is unknown nothing is shown.
pub(crate) fn forget(dir: &Path, sales: &[SaleId]) {
    for sale in sales {
        if let Err(error) = fs::remove_file(sold_out_file(dir, sale))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%sale, %error, "the file that says \"sold out\" cannot be taken away: do it by hand");
        }
    }
}

/// Creates or removes the file, in one step for readers. It need not survive a crash: the next
/// start corrects it.
fn show(dir: &Path, view: &SaleView) -> io::Result<()> {
    let path = sold_out_file(dir, &view.sale);
    if view.is_sold_out() {
        let new = path.with_extension("new");
        let text = format!("{{\"sale\":\"{}\",\"as_of\":{}}}\n", view.sale, view.as_of);
        let shown = fs::write(&new, text).and_then(|()| fs::rename(&new, &path));
        if shown.is_err() {
            // On a full disk a part of it may have been written.
            let _ = fs::remove_file(&new);
        }
        return shown;
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
