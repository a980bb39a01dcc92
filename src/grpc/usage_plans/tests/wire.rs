//! Through a real connection.

use pb::usage_plan_service_client::UsagePlanServiceClient;
use pb::usage_plan_service_server::UsagePlanServiceServer;
use tokio_stream::wrappers::TcpListenerStream;

use super::*;

#[tokio::test]
async fn the_service_answers_over_a_connection() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = UsagePlanServiceServer::new(World::new().service);
    let server = tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let mut client = UsagePlanServiceClient::connect(format!("http://{address}")).await.unwrap();
    let request = pb::CreateUsagePlanRequest { usage_plan: Some(gold()), ..Default::default() };
    let created = client.create_usage_plan(request.clone()).await.unwrap().into_inner();
    assert_eq!(
        client
            .get_usage_plan(pb::GetUsagePlanRequest { id: "gold".into() })
            .await
            .unwrap()
            .into_inner(),
        created
    );
    assert_eq!(
        refusal(client.create_usage_plan(request).await),
        (Code::AlreadyExists, "the plan `gold` exists already".to_owned())
    );
    let (code, message) =
        refusal(client.create_usage_plan(pb::CreateUsagePlanRequest::default()).await);
    assert_eq!((code, message.as_str()), (Code::InvalidArgument, "usage_plan is needed"));
    server.abort();
}
