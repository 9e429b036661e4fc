//! The expansion of `#[kernel]`, on `proc_macro2` tokens so that it can be tested on the host.

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Expr, Item, ItemFn, Meta, Result, ReturnType, Token, Type};

/// The arguments of `launch_bounds(..)`.
struct LaunchBounds {
    /// Most threads a block may have.
    max_threads: Expr,
    /// Fewest blocks that must fit on one multiprocessor.
    min_blocks: Option<Expr>,
}

/// Expands `#[kernel(options)] item`.
pub fn expand(options: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let bounds = parse_options(options)?;
    let function = parse_function(item)?;

    let mark = bounds.map(|bounds| mark(&function, &bounds));
    let ItemFn { attrs, vis, sig, block } = &function;
    let (name, inputs) = (&sig.ident, &sig.inputs);
    Ok(quote! {
        #(#attrs)*
        #[unsafe(no_mangle)]
        #vis unsafe extern "ptx-kernel" fn #name(#inputs) #block

        #mark
    })
}

fn parse_options(options: TokenStream) -> Result<Option<LaunchBounds>> {
    let metas = Punctuated::<Meta, Token![,]>::parse_terminated.parse2(options)?;
    let mut bounds = None;
    for meta in metas {
        if !meta.path().is_ident("launch_bounds") {
            return Err(Error::new(
                meta.path().span(),
                "unknown option of #[kernel]; the only one is `launch_bounds(MAX_THREADS, MIN_BLOCKS)`",
            ));
        }
        if bounds.is_some() {
            return Err(Error::new(meta.span(), "`launch_bounds` is given twice"));
        }
        bounds = Some(parse_bounds(&meta)?);
    }
    Ok(bounds)
}

fn parse_bounds(meta: &Meta) -> Result<LaunchBounds> {
    let list = meta.require_list()?;
    let mut values =
        list.parse_args_with(Punctuated::<Expr, Token![,]>::parse_terminated)?.into_iter();
    match (values.next(), values.next(), values.next()) {
        (Some(max_threads), min_blocks, None) => Ok(LaunchBounds { max_threads, min_blocks }),
        _ => Err(Error::new(
            list.span(),
            "`launch_bounds` takes the most threads in a block and, optionally, the fewest blocks on a multiprocessor",
        )),
    }
}

fn parse_function(item: TokenStream) -> Result<ItemFn> {
    let function = match syn::parse2::<Item>(item)? {
        Item::Fn(function) => function,
        other => {
            return Err(Error::new(other.span(), "#[kernel] goes on a free function"));
        }
    };

    let sig = &function.sig;
    let refuse = |span, message: &str| Err(Error::new(span, message));
    if let Some(receiver) = sig.receiver() {
        return refuse(receiver.span(), "a kernel is a free function: it has no `self`");
    }
    if let Some(token) = sig.constness {
        return refuse(token.span, "a kernel cannot be `const`");
    }
    if let Some(token) = sig.asyncness {
        return refuse(token.span, "a kernel cannot be `async`");
    }
    if let Some(abi) = &sig.abi {
        return refuse(abi.span(), "#[kernel] sets the calling convention; leave `extern` out");
    }
    if sig.unsafety.is_none() {
        return refuse(
            sig.fn_token.span,
            "a kernel must be `unsafe fn`: nothing checks what the host passes to it",
        );
    }
    if !sig.generics.params.is_empty() || sig.generics.where_clause.is_some() {
        return refuse(
            sig.generics.span(),
            "a kernel cannot be generic: its name must stand for one PTX entry",
        );
    }
    if let Some(variadic) = &sig.variadic {
        return refuse(variadic.span(), "a kernel cannot be variadic");
    }
    match &sig.output {
        ReturnType::Default => {}
        ReturnType::Type(_, ty) if matches!(&**ty, Type::Tuple(unit) if unit.elems.is_empty()) => {}
        ReturnType::Type(_, ty) => {
            return refuse(
                ty.span(),
                "a kernel returns nothing; write its results through a pointer",
            );
        }
    }
    Ok(function)
}

/// The comment in the module's assembly that carries the bounds to `cuda_builder`.
///
/// It stands under the same `#[cfg]`s as the kernel, or it would name an entry that is not there.
fn mark(function: &ItemFn, bounds: &LaunchBounds) -> TokenStream {
    let cfgs = function.attrs.iter().filter(|attr| attr.path().is_ident("cfg"));
    let name = function.sig.ident.unraw();
    let values = [Some(&bounds.max_threads), bounds.min_blocks.as_ref()];
    let values = values.into_iter().flatten();
    let text = format!("// launch_bounds {name}{}", " {}".repeat(values.clone().count()));
    quote! {
        #(#cfgs)*
        ::core::arch::global_asm!(#text, #(const #values),*);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(options: TokenStream, item: TokenStream) -> String {
        expand(options, item).unwrap().to_string()
    }

    fn refused(options: TokenStream, item: TokenStream) -> String {
        expand(options, item).unwrap_err().to_string()
    }

    #[test]
    fn plain_kernel_keeps_name_attributes_and_body() {
        let got = expanded(
            quote! {},
            quote! {
                /// Doc.
                #[inline(never)]
                pub unsafe fn double(values: *mut f32, len: u32) { body(values, len) }
            },
        );
        let want = quote! {
            /// Doc.
            #[inline(never)]
            #[unsafe(no_mangle)]
            pub unsafe extern "ptx-kernel" fn double(values: *mut f32, len: u32) { body(values, len) }
        };
        assert_eq!(got, want.to_string());
    }

    #[test]
    fn launch_bounds_leave_a_mark() {
        let got =
            expanded(quote! { launch_bounds(WARPS * 32, 2) }, quote! { pub unsafe fn gemm() {} });
        let want = quote! {
            #[unsafe(no_mangle)]
            pub unsafe extern "ptx-kernel" fn gemm() {}

            ::core::arch::global_asm!("// launch_bounds gemm {} {}", const WARPS * 32, const 2);
        };
        assert_eq!(got, want.to_string());
    }

    #[test]
    fn min_blocks_may_be_left_out_and_cfg_guards_the_mark() {
        let got = expanded(
            quote! { launch_bounds(128) },
            quote! { #[cfg(sm_90a)] pub unsafe fn r#gemm() -> () {} },
        );
        let want = quote! {
            #[cfg(sm_90a)]
            #[unsafe(no_mangle)]
            pub unsafe extern "ptx-kernel" fn r#gemm() {}

            #[cfg(sm_90a)]
            ::core::arch::global_asm!("// launch_bounds gemm {}", const 128);
        };
        assert_eq!(got, want.to_string());
    }

    #[test]
    fn wrong_functions_are_refused() {
        let cases = [
            (quote! { struct Gemm; }, "free function"),
            (quote! { pub fn gemm() {} }, "unsafe fn"),
            (quote! { pub unsafe fn gemm(&self) {} }, "no `self`"),
            (quote! { pub unsafe fn gemm() -> u32 { 0 } }, "returns nothing"),
            (quote! { pub unsafe fn gemm<const N: usize>() {} }, "generic"),
            (quote! { pub unsafe extern "C" fn gemm() {} }, "extern"),
            (quote! { pub const unsafe fn gemm() {} }, "const"),
            (quote! { pub async unsafe fn gemm() {} }, "async"),
        ];
        for (item, message) in cases {
            let got = refused(quote! {}, item.clone());
            assert!(got.contains(message), "{item}: {got}");
        }
    }

    #[test]
    fn wrong_options_are_refused() {
        let cases = [
            (quote! { launch_bound(1) }, "unknown option"),
            (quote! { launch_bounds() }, "takes the most threads"),
            (quote! { launch_bounds(1, 2, 3) }, "takes the most threads"),
            (quote! { launch_bounds }, "launch_bounds("),
            (quote! { launch_bounds(1), launch_bounds(1) }, "given twice"),
        ];
        for (options, message) in cases {
            let got = refused(options.clone(), quote! { pub unsafe fn gemm() {} });
            assert!(got.contains(message), "{options}: {got}");
        }
    }
}
