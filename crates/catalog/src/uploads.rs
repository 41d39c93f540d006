//! The pictures of a product as operators change them: added, put into another order, described,
//! removed. A picture's rows and its product change in one transaction, so nothing is left of an
//! upload that fails.

use crate::{
    picture_rows::{self, KEPT},
    pictures::{self, Rendition},
    rules,
    served::{READ_TURN_MAX, SERVED_FOR, Served},
    service::{DECODING_TURN_MAX, Service, note_put, of_put, of_sql},
    store::{self, PutError},
    trail::By,
};
use axum::body::Bytes;
use contracts::store::{Localized, Picture, PictureSize, Product, ProductSlug, StoreError};
use engines::{cache::Key, sql::SqlError};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::sync::SemaphorePermit;
use units::TimeMs;

/// How often it is looked for pictures that no product shows.
const SWEPT_EVERY: Duration = Duration::from_secs(3600);

/// What a change of a product's pictures came to.
enum Changed<T> {
    Done(T),
    NoProduct,
    Refused(StoreError),
}

/// Where shoppers get a picture.
fn path_of(name: &str) -> String {
    format!("/media/{name}")
}

/// The name of a picture: the last part of its path.
pub(crate) fn name_of(picture: &Picture) -> &str {
    picture.path.strip_prefix("/media/").unwrap_or(&picture.path)
}

/// The picture of these sizes.
fn picture_of(sizes: &[Rendition], alt: Localized) -> Option<Picture> {
    let largest = sizes.last()?;
    let size = |of: &Rendition| PictureSize { path: path_of(&of.name), width: of.width };
    let sizes = if sizes.len() > 1 { sizes.iter().map(size).collect() } else { Vec::new() };
    Some(Picture { path: path_of(&largest.name), width: largest.width, height: largest.height, alt, sizes })
}

/// What tells one state of a product's pictures from another.
pub(crate) fn mark_of(pictures: &[Picture]) -> String {
    let document = serde_json::to_vec(pictures).unwrap_or_default();
    blake3::hash(&document).to_hex()[..32].to_owned()
}

impl Service {
    /// Room for an upload in memory, which is asked for before it is read.
    pub(crate) fn room_for_upload(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        let room = self.uploads.try_acquire();
        room.map_err(|_| StoreError::Unavailable("too many pictures are being uploaded already".into()))
    }

    /// Adds a picture to a product, after those that it has. One that it has already stays, and
    /// keeps its text.
    pub(crate) async fn add_picture(
        &self,
        by: String,
        product: ProductSlug,
        upload: Bytes,
        alt: Localized,
    ) -> Result<Picture, StoreError> {
        rules::alt(&alt).map_err(StoreError::Invalid)?;
        // Before anything is decoded for it. Whether there is room is seen later: the same file
        // again needs none.
        self.find(product.clone()).await?.ok_or_else(no_product)?;
        let sizes = self.render(upload).await?;
        let picture = picture_of(&sizes, alt).ok_or_else(|| StoreError::Invalid("picture: empty".into()))?;
        let (now, sizes) = (self.clock.now(), Arc::new(sizes));
        self.change_pictures((by, "picture.add"), product, move |tx, product| {
            if let Some(known) = product.pictures.iter().find(|known| known.path == picture.path) {
                return Ok(Changed::Done((known.clone(), false)));
            }
            if product.pictures.len() >= rules::PICTURES_MAX {
                return Ok(Changed::Refused(full()));
            }
            picture_rows::put(tx, now, &sizes)?;
            product.pictures.push(picture.clone());
            Ok(Changed::Done((picture.clone(), true)))
        })
        .await
    }

    /// Puts a product's pictures into this order, with these texts, without those that are to go.
    /// Together they must be the ones that it has.
    pub(crate) async fn arrange_pictures(
        &self,
        by: String,
        product: ProductSlug,
        (wanted, gone): (Vec<(String, Localized)>, Vec<String>),
        seen: Option<String>,
    ) -> Result<Vec<Picture>, StoreError> {
        for (_, alt) in &wanted {
            rules::alt(alt).map_err(StoreError::Invalid)?;
        }
        self.change_pictures((by, "pictures.arrange"), product, move |_, product| {
            if seen.as_ref().is_some_and(|seen| *seen != mark_of(&product.pictures)) {
                let why = "pictures: they were changed meanwhile: look at them again".to_owned();
                return Ok(Changed::Refused(StoreError::Conflict(why)));
            }
            let mut left = product.pictures.clone();
            left.retain(|of| gone.iter().all(|name| name_of(of) != name));
            let mut arranged = Vec::with_capacity(left.len());
            for (name, alt) in &wanted {
                let Some(at) = left.iter().position(|of| name_of(of) == name) else {
                    let why = format!("pictures: the product has no picture {name:?}, or it is named twice");
                    return Ok(Changed::Refused(StoreError::Conflict(why)));
                };
                arranged.push(Picture { alt: alt.clone(), ..left.remove(at) });
            }
            if let Some(other) = left.first() {
                let why =
                    format!("pictures: {:?} is not named: want all that the product has", name_of(other));
                return Ok(Changed::Refused(StoreError::Conflict(why)));
            }
            let is_other = product.pictures != arranged;
            product.pictures.clone_from(&arranged);
            Ok(Changed::Done((arranged, is_other)))
        })
        .await
    }

    /// Takes a picture from a product. Returns whether it had it.
    pub(crate) async fn remove_picture(
        &self,
        by: String,
        product: ProductSlug,
        name: String,
    ) -> Result<bool, StoreError> {
        self.change_pictures((by, "picture.remove"), product, move |_, product| {
            let before = product.pictures.len();
            product.pictures.retain(|of| name_of(of) != name);
            let was_there = product.pictures.len() < before;
            Ok(Changed::Done((was_there, was_there)))
        })
        .await
    }

    /// Changes a product's pictures. `change` says with its answer whether there is anything to
    /// store.
    async fn change_pictures<T: Send + 'static>(
        &self,
        (by, did): (String, &'static str),
        product: ProductSlug,
        mut change: impl FnMut(&mut engines::sql::Tx<'_>, &mut Product) -> Result<Changed<(T, bool)>, PutError>
        + Send
        + 'static,
    ) -> Result<T, StoreError> {
        let now = self.clock.now();
        let written = self.change(vec![product.clone()], move |tx| {
            let Some(mut product) = store::find_locked(tx, &product)? else { return Ok(Changed::NoProduct) };
            let changed = change(tx, &mut product)?;
            if let Changed::Done((_, true)) = changed {
                note_put(tx, now, By { name: &by, did }, &product)?;
                store::put(tx, now, &product)?;
            }
            Ok(changed)
        });
        match written.await.map_err(of_put)? {
            Changed::Done((done, _)) => Ok(done),
            Changed::NoProduct => Err(no_product()),
            Changed::Refused(why) => Err(why),
        }
    }

    /// Decodes an upload and writes it anew, on a thread of its own, one at a time: a decoding
    /// takes memory and a core for as long as it lasts, whatever else the shop has to do.
    async fn render(&self, upload: Bytes) -> Result<Vec<Rendition>, StoreError> {
        let busy = || StoreError::Unavailable("other pictures are being decoded: try again".into());
        let turn = tokio::time::timeout(DECODING_TURN_MAX, Arc::clone(&self.decoding).acquire_owned()).await;
        let turn = turn.map_err(|_| busy())?.map_err(|_| busy())?;
        let rendered = tokio::task::spawn_blocking(move || {
            // It is kept until the thread is done, also if the caller has gone.
            let _turn = turn;
            pictures::render(&upload)
        });
        match rendered.await {
            Ok(rendered) => rendered.map_err(StoreError::Invalid),
            Err(error) => {
                tracing::error!(%error, "catalogue: a picture's decoder has failed");
                Err(StoreError::Invalid("picture: it cannot be decoded".into()))
            }
        }
    }

    /// Deletes what no product has shown for a day, for ever.
    pub(crate) async fn sweep_pictures(&self) -> Infallible {
        loop {
            if let Err(error) = self.sweep_pictures_once(self.clock.now()).await {
                tracing::warn!(%error, "catalogue: pictures that no product shows are not swept");
            }
            tokio::time::sleep(SWEPT_EVERY).await;
        }
    }

    async fn sweep_pictures_once(&self, now: TimeMs) -> Result<usize, SqlError> {
        if !self.sql.primary().read(picture_rows::are_uses_noted).await? {
            let mut after = Some(String::new());
            while let Some(last) = after {
                after = self.change(Vec::new(), move |tx| picture_rows::note_old(tx, &last)).await?;
            }
        }
        let before = TimeMs(now.0.saturating_sub(KEPT.0));
        let mut swept = 0;
        loop {
            let some = self.change(Vec::new(), move |tx| picture_rows::sweep(tx, before)).await?;
            swept += some;
            if some == 0 {
                return Ok(swept);
            }
            // What was swept is not sent any more, by this process.
            self.served.clear();
        }
    }

    /// The media type and the bytes of a picture.
    pub(crate) async fn picture(&self, name: String) -> Result<Option<Served>, StoreError> {
        let key = Key::new("pictures", &*name);
        if let Some(served) = self.served.get(&key).value {
            return Ok(Some(served));
        }
        // Those who ask at once for the same one wait here for the first of them.
        let turn = tokio::time::timeout(READ_TURN_MAX, self.reads.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(StoreError::Unavailable("too many pictures are asked for".into()));
        };
        let looked = self.served.get(&key);
        if let Some(served) = looked.value {
            return Ok(Some(served));
        }
        let read = self.sql.find(move |tx| picture_rows::find(tx, &name)).await;
        let found = read.map_err(|error| of_sql(&error))?;
        let served = found.map(|(media_type, bytes)| Served { media_type, bytes: bytes.into() });
        if let Some(served) = &served {
            self.served.put(&key, served.clone(), SERVED_FOR, looked.mark);
        }
        Ok(served)
    }
}

fn no_product() -> StoreError {
    StoreError::NotFound("product: there is none of this name".into())
}

fn full() -> StoreError {
    StoreError::Conflict(format!("pictures: the product has {} already", rules::PICTURES_MAX))
}

#[cfg(test)]
mod tests;
