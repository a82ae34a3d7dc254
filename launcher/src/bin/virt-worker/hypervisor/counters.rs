//! libvirt's counters of a domain: names and values, as `virsh domstats` prints them.

use std::collections::BTreeMap;
use std::ffi::CStr;

use virt::domain::Domain;
use virt::sys;

use super::{Result, failed};

/// What a counter holds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    /// A number; what is negative is zero.
    Number(u64),
    /// A text.
    Text(String),
}

/// Counters by libvirt's names, such as `block.0.rd.bytes`.
/// <https://libvirt.org/html/libvirt-libvirt-domain.html#virConnectGetAllDomainStats>
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters(BTreeMap<String, Value>);

impl Counters {
    /// The number of that name.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        match self.0.get(name)? {
            Value::Number(number) => Some(*number),
            Value::Text(_) => None,
        }
    }

    /// The text of that name.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name)? {
            Value::Text(text) => Some(text),
            Value::Number(_) => None,
        }
    }
}

#[cfg(test)]
impl Counters {
    /// Reads what `virsh domstats` prints.
    pub(crate) fn from_text(text: &str) -> Self {
        let named = text.split_whitespace().map(|counter| {
            let (name, value) = counter.split_once('=').unwrap();
            let value = value
                .parse()
                .map_or_else(|_| Value::Text(value.to_owned()), Value::Number);
            (name.to_owned(), value)
        });
        Self(named.collect())
    }
}

/// Reads a domain's counters of these kinds.
///
/// # Errors
/// libvirt's own words.
#[expect(unsafe_code, reason = "the binding wraps no domain statistics")]
pub(super) fn read(domain: &Domain, kinds: sys::virDomainStatsTypes) -> Result<Counters> {
    let mut domains = [domain.as_ptr(), std::ptr::null_mut()];
    let mut records = std::ptr::null_mut();
    // SAFETY: the list of domains ends with a null pointer, as the call wants it, and the domain
    // outlives the call; `records` takes one pointer.
    let count = unsafe { sys::virDomainListGetStats(domains.as_mut_ptr(), kinds, &mut records, 0) };
    let Ok(count) = usize::try_from(count) else {
        return Err(failed("read the domain's counters")(
            virt::error::Error::last_error(),
        ));
    };
    let records = Records(records);
    // SAFETY: libvirt has made a list of `count` pointers to records, each with an array of
    // `nparams` parameters, and `records` keeps them until the end of this function.
    let parameters = unsafe { slice(records.0, count) }
        .iter()
        .flat_map(|record| unsafe {
            slice(
                (**record).params,
                usize::try_from((**record).nparams).unwrap_or(0),
            )
        });
    Ok(Counters(parameters.filter_map(named).collect()))
}

/// A list that libvirt has made.
struct Records(*mut sys::virDomainStatsRecordPtr);

impl Drop for Records {
    #[expect(unsafe_code, reason = "libvirt frees what it has made")]
    fn drop(&mut self) {
        // SAFETY: the list is libvirt's own, or null, which it takes; nobody frees it before.
        unsafe { sys::virDomainStatsRecordListFree(self.0) };
    }
}

/// A C array; an empty one may be a null pointer.
///
/// # Safety
/// Where `count` is not zero, `items` points to that many of them for as long as `'a`.
#[expect(unsafe_code, reason = "the length of a C array is beside it")]
unsafe fn slice<'a, T>(items: *const T, count: usize) -> &'a [T] {
    if items.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(items, count) }
}

/// A parameter's name and value.
#[expect(
    unsafe_code,
    reason = "a C union: the type beside it says what is in it"
)]
fn named(parameter: &sys::virTypedParameter) -> Option<(String, Value)> {
    let value = &parameter.value;
    // SAFETY: the union holds what `type_` says; a text is a C string, or null.
    let value = unsafe {
        match parameter.type_.unsigned_abs() {
            sys::VIR_TYPED_PARAM_INT => Value::Number(value.i.try_into().unwrap_or(0)),
            sys::VIR_TYPED_PARAM_UINT => Value::Number(value.ui.into()),
            sys::VIR_TYPED_PARAM_LLONG => Value::Number(value.l.try_into().unwrap_or(0)),
            sys::VIR_TYPED_PARAM_ULLONG => Value::Number(value.ul),
            sys::VIR_TYPED_PARAM_STRING if !value.s.is_null() => {
                Value::Text(CStr::from_ptr(value.s).to_string_lossy().into_owned())
            }
            _ => return None,
        }
    };
    // Shorter than its field, so that it ends with a zero.
    let name: Vec<u8> = parameter
        .field
        .iter()
        .map(|byte| byte.cast_unsigned())
        .take_while(|byte| *byte != 0)
        .collect();
    Some((String::from_utf8(name).ok()?, value))
}
