//! Lists: the flags that all of them have, and their pages.

use crate::cli::Failure;
use crate::grpc::convert::requests::ListRequest;

/// Fetched at once where everything is asked for.
const PAGE_SIZE: i32 = 200;

#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(in crate::cli) struct Args {
    /// Terms that all hold: part of an id or a name, `display_name:PART`, `id=ID`,
    /// `labels.NAME=VALUE`, `plan=ID`, `target=ID`, `subscriber=ID`, and of keys `enabled=false`
    #[arg(long, value_name = "TERMS", default_value = "", hide_default_value = true)]
    filter: String,
    /// `id`, `display_name` or `update_time`, and ` desc` for the other way round [default: id]
    #[arg(long, value_name = "FIELD", default_value = "", hide_default_value = true)]
    order_by: String,
    /// One page of at most so many, instead of everything
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    page_size: Option<i32>,
    /// The page that the page before named, instead of everything
    #[arg(long, value_name = "TOKEN", allow_hyphen_values = true)]
    page_token: Option<String>,
}

/// A page as a server answers it: what is on it, the token of the next one, and how many there are
/// over all pages.
pub(in crate::cli) type Page<T> = (Vec<T>, String, i32);

/// Fetches the page that was asked for, or all of them as one.
pub(in crate::cli) async fn fetch<T, R: From<ListRequest>>(
    args: Args,
    mut page: impl AsyncFnMut(R) -> Result<Page<T>, Failure>,
) -> Result<Page<T>, Failure> {
    let one = args.page_size.is_some() || args.page_token.is_some();
    let page_size = args.page_size.unwrap_or(if one { 0 } else { PAGE_SIZE });
    let mut request = ListRequest {
        page_size,
        page_token: args.page_token.unwrap_or_default(),
        filter: args.filter,
        order_by: args.order_by,
    };
    let (mut items, mut next, mut total) = page(request.clone().into()).await?;
    while !one && !next.is_empty() {
        request.page_token = next;
        let more;
        (more, next, total) = page(request.clone().into()).await?;
        items.extend(more);
    }
    Ok((items, next, total))
}

/// The last line of a list: `total: 2 plans`, or what part of them this page is.
pub(in crate::cli) fn total_line(
    shown: usize,
    next_page_token: &str,
    total: i32,
    one: &str,
) -> String {
    let many = if total == 1 { one.to_owned() } else { format!("{one}s") };
    if next_page_token.is_empty() && usize::try_from(total).is_ok_and(|total| total <= shown) {
        format!("total: {shown} {many}\n")
    } else if next_page_token.is_empty() {
        format!("total: {total} {many}, the last {shown} of them here\n")
    } else {
        format!(
            "total: {total} {many}, {shown} of them here; the next with --page-token {next_page_token}\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{Args, ListRequest, fetch, total_line};
    use crate::cli::Failure;

    fn ask(
        page_size: Option<i32>,
        page_token: Option<&str>,
    ) -> (Vec<u32>, String, Vec<(i32, String)>) {
        let args = Args {
            filter: "f".into(),
            order_by: "id".into(),
            page_size,
            page_token: page_token.map(str::to_owned),
        };
        let mut asked = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let fetched = runtime.block_on(fetch(args, async |request: ListRequest| {
            assert_eq!((request.filter.as_str(), request.order_by.as_str()), ("f", "id"));
            let at: u32 = request.page_token.parse().unwrap_or(0);
            asked.push((request.page_size, request.page_token));
            Ok::<_, Failure>((
                vec![at, at + 1],
                if at < 4 { (at + 2).to_string() } else { String::new() },
                6,
            ))
        }));
        let (items, next, total) = fetched.unwrap();
        assert_eq!(total, 6);
        (items, next, asked)
    }

    #[test]
    fn everything_is_fetched_page_by_page_unless_a_page_is_asked_for() {
        let (items, next, asked) = ask(None, None);
        assert_eq!((items, next.as_str()), (vec![0, 1, 2, 3, 4, 5], ""));
        assert_eq!(asked, [(200, String::new()), (200, "2".into()), (200, "4".into())]);

        let (items, next, asked) = ask(Some(2), None);
        assert_eq!((items, next.as_str(), asked), (vec![0, 1], "2", vec![(2, String::new())]));
        let (items, next, asked) = ask(None, Some("4"));
        assert_eq!((items, next.as_str(), asked), (vec![4, 5], "", vec![(0, "4".into())]));
    }

    #[test]
    fn the_total_is_of_all_pages() {
        for (shown, next, total, said) in [
            (0, "", 0, "total: 0 plans\n"),
            (1, "", 1, "total: 1 plan\n"),
            (3, "", 3, "total: 3 plans\n"),
            (2, "abc", 5, "total: 5 plans, 2 of them here; the next with --page-token abc\n"),
            (1, "", 5, "total: 5 plans, the last 1 of them here\n"),
        ] {
            assert_eq!(total_line(shown, next, total, "plan"), said);
        }
    }
}
