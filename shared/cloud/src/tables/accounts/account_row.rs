//! A row of the registry, each field parsed once.

use aws_sdk_dynamodb::types::AttributeValue;
use spot_domain::ids::MalformedText;
use spot_domain::spelling::is_alike;
use spot_domain::words::Cause;
use spot_domain::{AccountId, EnvironmentType, Region};

use super::{ACCOUNT_ID, Account, AccountError, Regions};
use crate::access::{Access, Role};
use crate::tables::row::{Row, text_in};

/// The value of `regions` that stands for all regions that the account has enabled.
const ALL_REGIONS: &str = "*";

/// Every attribute that a row may have.
const ATTRIBUTES: [&str; 8] = [
    ACCOUNT_ID,
    "environment_type",
    "role_arn",
    "external_id",
    "enabled",
    "member",
    "regions",
    "auto_terminate",
];

/// The row of an account. A field that can't be read hinders only those who need it: a swap must be undone, whatever
/// has become of the row's `regions`.
pub(super) struct AccountRow {
    pub(super) id: AccountId,
    environment_type: Field<EnvironmentType>,
    role: Field<Role>,
    /// `None` if absent: the account is enabled.
    enabled: Field<Option<bool>>,
    /// True for a hub's member, which runs a stack of its own and needs no role here.
    member: Field<Option<bool>>,
    /// `None` if absent: the stack's own region.
    regions: Field<Option<Regions>>,
    /// Only a plain `true` switches it on.
    auto_terminate: Field<Option<bool>>,
    /// The first attribute that resembles one of [`ATTRIBUTES`]: a misspelt `enabled` must not leave an account on.
    misspelt: Option<(String, &'static str)>,
}

/// A field, or its fault.
type Field<T> = Result<T, Fault>;

struct Fault {
    field: &'static str,
    problem: Cause,
}

impl AccountRow {
    pub(super) fn parse(id: AccountId, row: &Row) -> Self {
        Self {
            environment_type: environment_type(row),
            role: role(&id, row),
            enabled: flag(row, "enabled"),
            member: flag(row, "member"),
            regions: regions(row),
            auto_terminate: flag(row, "auto_terminate"),
            misspelt: misspelt(row),
            id,
        }
    }

    pub(super) fn require_enabled(&self) -> Result<&Self, AccountError> {
        match self.read(&self.enabled)? {
            None | Some(true) => Ok(self),
            Some(false) => Err(AccountError::Disabled(self.id.clone())),
        }
    }

    /// Refuses a row with a misspelt attribute. Whatever begins something in an account asks for that; an undo does not.
    pub(super) fn require_spelled(&self) -> Result<&Self, AccountError> {
        let Some((field, meant)) = &self.misspelt else { return Ok(self) };
        let problem = format!("no such attribute: rename it to {meant:?}, or remove it");
        let account_id = self.id.clone();
        Err(AccountError::Malformed { account_id, field: field.clone(), problem: problem.into() })
    }

    pub(super) fn require_no_member(&self) -> Result<&Self, AccountError> {
        if self.is_member()? {
            let problem = "true: work in the account from its own stack".into();
            return Err(self.malformed(&Fault { field: "member", problem }));
        }
        Ok(self)
    }

    pub(super) fn is_member(&self) -> Result<bool, AccountError> {
        self.read(&self.member).map(Option::unwrap_or_default)
    }

    pub(super) fn environment_type(&self) -> Result<EnvironmentType, AccountError> {
        self.read(&self.environment_type)
    }

    pub(super) fn access(&self) -> Result<Access, AccountError> {
        let environment_type = self.environment_type()?;
        Ok(Access { environment_type, role: Some(self.read(&self.role)?) })
    }

    /// `own` is the access to the stack's own account, which needs no role.
    pub(super) fn account(&self, own: Option<Access>, home: &Region) -> Result<Account, AccountError> {
        self.require_enabled()?.require_spelled()?;
        let access = own.map_or_else(|| self.access(), Ok)?;
        let regions = self.regions()?.unwrap_or_else(|| Regions::Listed(vec![home.clone()]));
        Ok(Account { id: self.id.clone(), access, regions, auto_terminate: self.auto_terminate()? })
    }

    fn regions(&self) -> Result<Option<Regions>, AccountError> {
        self.read(&self.regions)
    }

    fn auto_terminate(&self) -> Result<bool, AccountError> {
        self.read(&self.auto_terminate).map(Option::unwrap_or_default)
    }

    fn read<T: Clone>(&self, field: &Field<T>) -> Result<T, AccountError> {
        field.as_ref().cloned().map_err(|fault| self.malformed(fault))
    }

    fn malformed(&self, Fault { field, problem }: &Fault) -> AccountError {
        let field = (*field).to_owned();
        AccountError::Malformed { account_id: self.id.clone(), field, problem: problem.clone() }
    }
}

/// Any other attribute is the owner's own note.
fn misspelt(row: &Row) -> Option<(String, &'static str)> {
    let names = row.keys().filter(|name| !ATTRIBUTES.contains(&name.as_str()));
    let near = |name: &String| ATTRIBUTES.into_iter().find(|known| is_alike(name, known));
    names.filter_map(|name| Some((name.clone(), near(name)?))).min()
}

fn environment_type(row: &Row) -> Field<EnvironmentType> {
    let malformed = |problem| Fault { field: "environment_type", problem };
    let text = text_in(row, "environment_type");
    let text = text.ok_or_else(|| malformed("missing: expected LAB or PROD (S)".into()))?;
    text.parse().map_err(|error: MalformedText| malformed(Cause::of(error)))
}

fn role(account_id: &AccountId, row: &Row) -> Field<Role> {
    let malformed = |problem| Fault { field: "role_arn", problem };
    let arn = text_in(row, "role_arn");
    let arn = arn.ok_or_else(|| malformed("missing: expected the ARN of the role to assume (S)".into()))?;
    // Another account's role would open another account, under this one's environment.
    if arn.split(':').nth(4) != Some(account_id.as_str()) {
        return Err(malformed(format!("{arn:?} is no role of this account").into()));
    }
    Ok(Role { arn: arn.clone(), external_id: text_in(row, "external_id").cloned() })
}

/// Parses `true` or `false`. Any type but BOOL is a fault.
fn flag(row: &Row, field: &'static str) -> Field<Option<bool>> {
    match row.get(field) {
        None => Ok(None),
        Some(AttributeValue::Bool(on)) => Ok(Some(*on)),
        Some(_) => Err(Fault { field, problem: "expected true or false (BOOL)".into() }),
    }
}

/// Parses a set or a list of texts, or `*` alone for all regions that are enabled; `None` if absent.
fn regions(row: &Row) -> Field<Option<Regions>> {
    let malformed = |problem: Cause| Fault { field: "regions", problem };
    let texts: Vec<&String> = match row.get("regions") {
        None => return Ok(None),
        Some(AttributeValue::Ss(set)) => set.iter().collect(),
        Some(AttributeValue::L(list)) => list
            .iter()
            .map(|v| v.as_s().map_err(|_| malformed("expected texts in the list".into())))
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(malformed("expected a set or list of regions (SS or L)".into())),
    };
    if texts.iter().any(|text| *text == ALL_REGIONS) {
        let problem =
            || malformed(format!("{ALL_REGIONS:?} means all enabled regions, and stands alone").into());
        return if texts.len() == 1 { Ok(Some(Regions::AllEnabled)) } else { Err(problem()) };
    }
    let mut regions: Vec<Region> = texts
        .into_iter()
        .map(|text| text.parse().map_err(|e: MalformedText| malformed(Cause::of(e))))
        .collect::<Result<_, _>>()?;
    regions.sort();
    regions.dedup();
    if regions.is_empty() {
        return Err(malformed("empty: name at least one, or disable the account".into()));
    }
    Ok(Some(Regions::Listed(regions)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::row::{number, text};

    fn row(fields: &[(&str, AttributeValue)]) -> AccountRow {
        let row = fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        AccountRow::parse("111111111111".parse().unwrap(), &row)
    }

    #[test]
    fn a_row_without_an_environment_opens_nothing() {
        let good = row(&[
            ("environment_type", text("LAB")),
            ("role_arn", text("arn:aws:iam::111111111111:role/spot")),
        ]);
        assert_eq!(good.access().unwrap().environment_type, EnvironmentType::Lab);
        let bad = [
            (row(&[("role_arn", text("r"))]), "environment_type"),
            (row(&[("environment_type", text("prod")), ("role_arn", text("r"))]), "environment_type"),
            (row(&[("environment_type", text("PROD"))]), "role_arn"),
            (
                row(&[
                    ("environment_type", text("LAB")),
                    ("role_arn", text("arn:aws:iam::222222222222:role/spot")),
                ]),
                "role_arn",
            ),
            (row(&[("enabled", AttributeValue::Bool(false))]), "disabled"),
            (row(&[("enabled", text("no"))]), "enabled"),
            (row(&[("environment_type", text("PROD")), ("member", AttributeValue::Bool(true))]), "own stack"),
            (row(&[("environment_type", text("PROD")), ("member", text("true"))]), "member"),
        ];
        for (row, expected) in bad {
            let opened = row.require_enabled().and_then(AccountRow::require_no_member);
            let error = opened.and_then(AccountRow::access).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("111111111111"), "{error}");
        }
    }

    /// A swap that began in the account is undone all the same.
    #[test]
    fn a_field_that_cant_be_read_hinders_only_those_who_need_it() {
        let odd = row(&[
            ("environment_type", text("PROD")),
            ("role_arn", text("arn:aws:iam::111111111111:role/spot")),
            ("enabled", text("no")),
            ("member", text("no")),
            ("regions", text("everywhere")),
            ("auto_terminate", text("yes")),
        ]);
        assert_eq!(odd.access().unwrap().environment_type, EnvironmentType::Prod);
        assert!(odd.require_enabled().is_err() && odd.require_no_member().is_err());
        assert!(odd.regions().is_err() && odd.auto_terminate().is_err());
        let roleless = row(&[("environment_type", text("LAB")), ("enabled", AttributeValue::Bool(true))]);
        assert_eq!(roleless.environment_type().unwrap(), EnvironmentType::Lab);
    }

    /// Whatever is misspelt was meant: `enable = false` must not leave the account on.
    #[test]
    fn a_misspelt_attribute_keeps_the_account_from_all_but_an_undo() {
        let with = |name: &str, value| {
            row(&[
                ("account_id", text("111111111111")),
                ("environment_type", text("LAB")),
                ("role_arn", text("arn:aws:iam::111111111111:role/spot")),
                ("external_id", text("x")),
                (name, value),
            ])
        };
        let home = "us-east-1".parse().unwrap();
        for (name, meant) in [
            ("enable", "enabled"),
            ("Enabled", "enabled"),
            ("members", "member"),
            ("region", "regions"),
            ("auto-terminate", "auto_terminate"),
        ] {
            let odd = with(name, AttributeValue::Bool(false));
            let visit = odd.account(None, &home).unwrap_err().to_string();
            let swap = odd.require_spelled().err().unwrap().to_string();
            assert_eq!(visit, swap);
            assert!(visit.contains(&format!("field {name:?}")) && visit.contains("111111111111"), "{visit}");
            assert!(visit.contains(&format!("rename it to {meant:?}")), "{visit}");
            assert_eq!(odd.access().unwrap().environment_type, EnvironmentType::Lab, "an undo");
            assert_eq!(odd.environment_type().unwrap(), EnvironmentType::Lab);
        }
        for name in ["enabled", "auto_terminate", "note", "owner", "name"] {
            assert!(with(name, AttributeValue::Bool(true)).account(None, &home).is_ok(), "{name}");
        }
        let off = row(&[("enabled", AttributeValue::Bool(false)), ("Regions", text("x"))]);
        assert!(matches!(off.account(None, &home), Err(AccountError::Disabled(_))), "it is off as it is");
    }

    #[test]
    fn regions_and_auto_terminate_are_read_strictly() {
        let set = AttributeValue::Ss(vec!["us-west-2".into(), "us-east-1".into(), "us-west-2".into()]);
        let good = row(&[("regions", set), ("auto_terminate", AttributeValue::Bool(true))]);
        let listed = ["us-east-1", "us-west-2"].map(|region| region.parse().unwrap());
        assert_eq!(good.regions().unwrap(), Some(Regions::Listed(listed.to_vec())));
        assert!(good.auto_terminate().unwrap());
        assert!(!row(&[]).auto_terminate().unwrap());
        assert_eq!(row(&[]).regions().unwrap(), None);
        for all in [AttributeValue::Ss(vec!["*".into()]), AttributeValue::L(vec![text("*")])] {
            assert_eq!(row(&[("regions", all)]).regions().unwrap(), Some(Regions::AllEnabled));
        }
        let narnia = AttributeValue::L(vec![text("Narnia")]);
        for odd in [text("us-east-1"), text("*"), AttributeValue::L(vec![]), narnia] {
            assert!(row(&[("regions", odd)]).regions().is_err());
        }
        for mixed in [vec!["*", "us-east-1"], vec!["us-*"]] {
            let set = AttributeValue::Ss(mixed.into_iter().map(str::to_owned).collect());
            let error = row(&[("regions", set)]).regions().unwrap_err().to_string();
            assert!(error.contains("\"regions\"") && error.contains('*'), "{error}");
        }
        for odd in [text("true"), number(&1)] {
            assert!(row(&[("auto_terminate", odd)]).auto_terminate().is_err());
        }
    }
}
