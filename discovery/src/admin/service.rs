//! The verbs, each in one line.

use hawser_api::proto::admin::admin_server::Admin;
use hawser_api::proto::admin::{
    AcceptRegistryRequest, AcceptRegistryResponse, ApplyRequest, ApplyResponse, BackupChunk, BackupRequest,
    CreateTokenRequest, CreateTokenResponse, DeleteRequest, DeleteResponse, DeregisterRequest, DeregisterResponse,
    ListConfigRequest, ListConfigResponse, ListEndpointsRequest, ListEndpointsResponse, ListHostsRequest,
    ListHostsResponse, ListRegistriesRequest, ListRegistriesResponse, ListServicesRequest, ListServicesResponse,
    ListTokensRequest, ListTokensResponse, ListWorkloadsRequest, ListWorkloadsResponse, ProxyConfigRequest,
    ProxyConfigResponse, ProxyStatusRequest, ProxyStatusResponse, RegisterRequest, RegisterResponse, RevokeHostRequest,
    RevokeHostResponse, RevokeTokenRequest, RevokeTokenResponse, RotateRootRequest, RotateRootResponse, StatusRequest,
    StatusResponse, WhyRequest, WhyResponse,
};
use hawser_api::proto::host::{HelloRequest, HelloResponse};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::AdminService;
use crate::hosts::HostService;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Admin for AdminService {
    type BackupStream = ReceiverStream<Result<BackupChunk, Status>>;

    async fn hello(&self, _: Request<HelloRequest>) -> Answer<HelloResponse> {
        Ok(Response::new(HostService::hello(&self.inner.hosts)))
    }

    async fn create_token(&self, request: Request<CreateTokenRequest>) -> Answer<CreateTokenResponse> {
        Ok(Response::new(self.new_token(request.into_inner()).await?))
    }

    async fn list_tokens(&self, _: Request<ListTokensRequest>) -> Answer<ListTokensResponse> {
        Ok(Response::new(ListTokensResponse { tokens: self.tokens()? }))
    }

    async fn revoke_token(&self, request: Request<RevokeTokenRequest>) -> Answer<RevokeTokenResponse> {
        self.revoke(request.into_inner().id).await?;
        Ok(Response::new(RevokeTokenResponse {}))
    }

    async fn list_hosts(&self, _: Request<ListHostsRequest>) -> Answer<ListHostsResponse> {
        Ok(Response::new(ListHostsResponse { hosts: self.hosts() }))
    }

    async fn revoke_host(&self, request: Request<RevokeHostRequest>) -> Answer<RevokeHostResponse> {
        let id = request.into_inner().instance_id;
        match self.inner.hosts.revoke(&id).await {
            Err(crate::hosts::Refusal::HostUnknown) => Err(Status::not_found(format!("there is no host {id:?}"))),
            Err(refusal) => Err(refusal.into()),
            Ok(()) => Ok(Response::new(RevokeHostResponse {})),
        }
    }

    async fn apply(&self, request: Request<ApplyRequest>) -> Answer<ApplyResponse> {
        Ok(Response::new(self.apply_documents(request.into_inner()).await?))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Answer<DeleteResponse> {
        Ok(Response::new(self.delete_objects(request.into_inner()).await?))
    }

    async fn list_config(&self, request: Request<ListConfigRequest>) -> Answer<ListConfigResponse> {
        Ok(Response::new(self.configs(&request.into_inner())?))
    }

    async fn list_services(&self, request: Request<ListServicesRequest>) -> Answer<ListServicesResponse> {
        Ok(Response::new(ListServicesResponse { services: self.services(&request.into_inner().namespace) }))
    }

    async fn list_workloads(&self, request: Request<ListWorkloadsRequest>) -> Answer<ListWorkloadsResponse> {
        Ok(Response::new(ListWorkloadsResponse { workloads: self.workloads(&request.into_inner().namespace) }))
    }

    async fn list_endpoints(&self, request: Request<ListEndpointsRequest>) -> Answer<ListEndpointsResponse> {
        let ListEndpointsRequest { host, namespace } = request.into_inner();
        Ok(Response::new(ListEndpointsResponse { endpoints: self.endpoints(&host, &namespace) }))
    }

    async fn proxy_status(&self, _: Request<ProxyStatusRequest>) -> Answer<ProxyStatusResponse> {
        Ok(Response::new(ProxyStatusResponse { proxies: self.proxies() }))
    }

    async fn proxy_config(&self, request: Request<ProxyConfigRequest>) -> Answer<ProxyConfigResponse> {
        Ok(Response::new(self.config_of_proxy(request.into_inner()).await?))
    }

    async fn why(&self, request: Request<WhyRequest>) -> Answer<WhyResponse> {
        Ok(Response::new(self.explain_call(request.into_inner())?))
    }

    async fn register(&self, request: Request<RegisterRequest>) -> Answer<RegisterResponse> {
        Ok(Response::new(self.register_instance(request.into_inner()).await?))
    }

    async fn deregister(&self, request: Request<DeregisterRequest>) -> Answer<DeregisterResponse> {
        Ok(Response::new(self.deregister_instance(request.into_inner()).await?))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Answer<StatusResponse> {
        Ok(Response::new(self.status_now()))
    }

    async fn list_registries(&self, _: Request<ListRegistriesRequest>) -> Answer<ListRegistriesResponse> {
        Ok(Response::new(self.registries()))
    }

    async fn accept_registry(&self, request: Request<AcceptRegistryRequest>) -> Answer<AcceptRegistryResponse> {
        let name = self.accept(&request.into_inner().name).await?;
        Ok(Response::new(AcceptRegistryResponse { name }))
    }

    async fn backup(&self, _: Request<BackupRequest>) -> Answer<Self::BackupStream> {
        Ok(Response::new(self.backup_stream()))
    }

    async fn rotate_root(&self, _: Request<RotateRootRequest>) -> Answer<RotateRootResponse> {
        Ok(Response::new(RotateRootResponse { roots: self.rotate().await? }))
    }
}
