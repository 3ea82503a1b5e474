//! The gRPC example: its own client, and a client with tenants of its own.

use std::process::Command;
use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::programs::{Server, program};

async fn check(client: &mut HealthClient<Channel>, tenant: Option<&str>) -> Result<(), Status> {
    let mut request = Request::new(HealthCheckRequest::default());
    request.set_timeout(Duration::from_secs(30));
    if let Some(tenant) = tenant {
        request.metadata_mut().insert("x-tenant", tenant.parse().unwrap());
    }
    client.check(request).await.map(|_| ())
}

#[tokio::test]
async fn each_method_has_quotas_of_its_own_for_each_tenant() {
    let server = Server::start("grpc_methods", &[]);

    // The client of the example has five calls of each method.
    let port = server.address.rsplit_once(':').unwrap().1;
    let mut command = Command::new(program("grpc_methods"));
    let output = command.args(["client", "acme"]).env("PORT", port).output().unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let lines = |start: &str| output.lines().filter(|line| line.starts_with(start)).count();
    assert_eq!((lines("Check: ok"), lines("Check: ResourceExhausted")), (3, 2), "{output}");
    assert_eq!((lines("Watch: ok"), lines("Watch: ResourceExhausted")), (1, 4), "{output}");

    let channel = Channel::from_shared(format!("http://{}", server.address)).unwrap().connect().await.unwrap();
    let mut client = HealthClient::new(channel);
    for _ in 0..3 {
        check(&mut client, Some("other")).await.unwrap();
    }
    let refused = check(&mut client, Some("other")).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let wait: u64 = refused.metadata().get("retry-after").unwrap().to_str().unwrap().parse().unwrap();
    assert!((1..=11).contains(&wait), "{wait}");
    check(&mut client, Some("third")).await.unwrap();
    assert_eq!(check(&mut client, None).await.unwrap_err().code(), Code::InvalidArgument, "a call without a tenant");
}
