//! A brand's colour, corners, logo and name, on the sale's page and on the shop's alike.

use super::*;

#[test]
fn the_sales_page_and_the_shops_wear_the_same_brand() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let profile = tempfile::Builder::new().prefix("floodgate-browser-").tempdir().unwrap();
    let logo = profile.path().join("logo.svg");
    let svg = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 60 20' width='60' height='20'><rect width='60' height='20'/></svg>";
    std::fs::write(&logo, svg).unwrap();
    let driver = Driver::start();
    let seen = runtime.block_on(async {
        let client = open_browser(&driver, profile.path(), true).await;
        let serve = ["--demo", "--demo-opens-in", "0"].map(str::to_owned).to_vec();
        let settings = format!(
            "[store]\nlisten = \"127.0.0.1:0\"\nname = \"Example Shop\"\nname_zh = \"示例商店\"\n\
             [brand]\naccent = \"#ff6900\"\ncorner_px = 3\nlogo_file = {:?}\n",
            logo.display().to_string()
        );
        let server = Server::with(Setup { serve, settings, ..Setup::default() });
        let pages =
            [server.shop_url("/sales/demo?lang=zh"), format!("http://{}/p/flood-one?lang=zh", server.store)];
        let seen = tokio::spawn({
            let client = client.clone();
            async move {
                let mut seen = Vec::new();
                for page in pages {
                    client.goto(&page).await.unwrap();
                    seen.push(client.execute(LOOK, Vec::new()).await.unwrap());
                }
                seen
            }
        });
        let seen = seen.await;
        let _ = client.close().await;
        seen
    });
    let want = json!({
        "name": "示例商店", "brand": "#ff6900", "text": "rgb(189, 78, 0)", "round": "3px",
        "logo": [60, 84, 28], "has_title": true,
    });
    match seen {
        Ok(seen) => assert_eq!(seen, [want.clone(), want]),
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}

/// What a page looks like: a link made for this, the tokens, and the logo with its room.
const LOOK: &str = "
    const link = document.body.appendChild(Object.assign(document.createElement('a'), { href: '/' }));
    const root = getComputedStyle(document.documentElement);
    const logo = document.querySelector('.brand img.mark');
    return {
        name: document.querySelector('.brand span').textContent,
        brand: root.getPropertyValue('--brand').trim(),
        text: getComputedStyle(link).color,
        round: root.getPropertyValue('--round').trim(),
        logo: [logo.naturalWidth, logo.offsetWidth, logo.offsetHeight],
        has_title: document.title.endsWith('示例商店'),
    };";
