use object_store::ObjectStoreExt;

use super::*;

#[test]
fn mistakes_are_told_with_their_keys() {
    let config = StorageConfig { url: "http://bucket".to_owned(), ..StorageConfig::default() };
    assert!(config.problems().concat().contains("s3://BUCKET"), "{:?}", config.problems());
    let plain = StorageConfig {
        url: "s3://bucket/some/prefix".to_owned(),
        endpoint: "http://127.0.0.1:9000".to_owned(),
        ..StorageConfig::default()
    };
    assert!(plain.problems().concat().starts_with("allow_http"), "{:?}", plain.problems());
    assert!(StorageConfig { allow_http: true, ..plain }.problems().is_empty());
    assert!(StorageConfig::default().problems().is_empty() && StorageConfig::default().is_folder());
}

#[tokio::test]
async fn a_folder_holds_the_lake_and_the_checkpoints() {
    let folder = tempfile::tempdir().expect("a folder");
    let storage = Storage::open(&StorageConfig::default(), folder.path()).expect("opens");
    storage.probe().await.expect("creates an object once");
    storage.probe().await.expect("again");
    assert!(storage.lake_url().path().ends_with("/lake/"));
    let missing = storage.find_lake().await.expect_err("no lake");
    assert!(missing.is_users_fault() && missing.to_string().contains("no lake"), "{missing}");
    let path = Path::from("shard/1");
    storage.checkpoints().put(&path, PutPayload::from_static(b"x")).await.expect("writes");
    assert!(folder.path().join("checkpoints/shard/1").exists());
}
