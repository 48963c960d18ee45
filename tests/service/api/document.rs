//! The contract: what is served is what is committed, and the docs page asks no other host.

use reqwest::Method;
use serde_json::Value;

use crate::support::deployment::start;

#[tokio::test(flavor = "multi_thread")]
async fn the_served_document_is_the_committed_one() {
    let deployment = start().await;
    let served = deployment.user("ann").get("/openapi.json").await.ok();
    let committed: Value = serde_json::from_str(include_str!("../../../openapi/headcount.json")).unwrap();
    assert_eq!(served, committed, "run make openapi");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_docs_page_asks_no_other_host() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    let page = ann.get("/docs/").await.ok();
    let page = page.as_str().unwrap();
    assert!(page.contains("swagger-ui"));
    assert!(!page.contains("http://") && !page.contains("https://"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn head_is_answered_as_get_is_without_the_body() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    for path in ["/docs/", "/openapi.json", "/livez", "/v1/rooms/lobby"] {
        let [get, head] = [Method::GET, Method::HEAD].map(|method| ann.request(method, path).send());
        let (get, head) = (get.await.unwrap(), head.await.unwrap());
        assert_eq!(head.status(), 200, "{path}");
        for name in ["content-type", "content-length", "etag"] {
            assert_eq!(head.headers().get(name), get.headers().get(name), "{path} {name}");
        }
        assert_eq!(head.text().await.unwrap(), "", "{path}");
    }
    assert_eq!(ann.request(Method::HEAD, "/v1/rooms/lobby/events").send().await.unwrap().status(), 405);
    assert_eq!(ann.request(Method::HEAD, "/v1/rooms/lobby/join").send().await.unwrap().status(), 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_browser_library_is_served_for_a_script_tag() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    let response = ann.request(reqwest::Method::GET, "/headcount.js").send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/javascript; charset=utf-8");
    assert_eq!(response.text().await.unwrap(), include_str!("../../../src/http/pages/headcount.js"));
}
