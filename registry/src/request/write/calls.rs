//! The writing calls of the interface.

use registry_proto::internal::WriteMethod;
use registry_proto::v1;
use registry_state::Reply;

use super::Write;
use crate::error::Error;
use crate::request::admit::Class;
use crate::server::convert::{self, Checked};

/// A request, its answer, its name between nodes, its class, how it is checked and how it is answered.
macro_rules! call {
    ($request:ident -> $response:ident, $method:ident, $class:ident, $check:expr, $answer:path) => {
        impl Write for v1::$request {
            type Response = v1::$response;
            const METHOD: WriteMethod = WriteMethod::$method;
            const CLASS: Class = Class::$class;

            fn check(self) -> Result<Checked, Error> {
                let check: fn(Self) -> Result<Checked, Error> = $check;
                check(self)
            }

            fn answer(reply: &Reply) -> Result<Self::Response, Error> {
                $answer(reply)
            }

            fn head(response: &mut Self::Response, header: v1::ResponseHeader) {
                response.header = Some(header);
            }
        }
    };
}

call!(ServiceRegisterRequest -> ServiceRegisterResponse, Register, Register,
    convert::register, convert::register_response);
call!(BatchRegisterRequest -> BatchRegisterResponse, BatchRegister, Register,
    convert::batch_register, convert::batch_response);
call!(ServiceDeregisterRequest -> ServiceDeregisterResponse, Deregister, Relief,
    |request| convert::deregister(&request), convert::deregister_response);
call!(SetInstanceStateRequest -> SetInstanceStateResponse, SetInstanceState, Relief,
    |request| convert::set_state(&request), convert::state_response);
call!(SetInstanceOverrideRequest -> SetInstanceOverrideResponse, SetInstanceOverride, Relief,
    |request| convert::set_override(&request), convert::override_response);
call!(ClearInstanceOverrideRequest -> ClearInstanceOverrideResponse, ClearInstanceOverride, Relief,
    |request| convert::clear_override(&request), convert::cleared_response);
call!(EndProtectionRequest -> EndProtectionResponse, EndProtection, Relief,
    |request| convert::end_protection(&request), convert::protection_ended_response);
