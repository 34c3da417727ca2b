//! Document paths, such as `a.b[0]`.
//! <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.Attributes.html>

use std::fmt;

use super::attribute::{Attribute, AttributeMap};

/// A step of a document path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathStep {
    /// The attribute of an item or of a map.
    Name(String),
    /// The element of a list.
    Index(usize),
}

/// A path from an item to one of its attributes. The first step is a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DocumentPath {
    pub root: String,
    pub steps: Vec<PathStep>,
}

/// An update of a path whose parent is missing or of another type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoParent;

impl DocumentPath {
    /// Returns the attribute at the path.
    #[must_use]
    pub fn find<'a>(&self, item: &'a AttributeMap) -> Option<&'a Attribute> {
        let root = item.get(&self.root)?;
        self.steps.iter().try_fold(root, |value, step| match (value, step) {
            (Attribute::M(fields), PathStep::Name(name)) => fields.get(name),
            (Attribute::L(values), PathStep::Index(index)) => values.get(*index),
            _ => None,
        })
    }

    /// Writes an attribute. An index beyond the end of a list appends.
    ///
    /// # Errors
    /// The parent is missing or of another type.
    pub fn set(&self, item: &mut AttributeMap, value: Attribute) -> Result<(), NoParent> {
        let Some((last, parent)) = self.parent_of(item)? else {
            item.insert(self.root.clone(), value);
            return Ok(());
        };
        match (parent, last) {
            (Attribute::M(fields), PathStep::Name(name)) => drop(fields.insert(name.clone(), value)),
            (Attribute::L(values), PathStep::Index(index)) => match values.get_mut(*index) {
                Some(element) => *element = value,
                None => values.push(value),
            },
            _ => return Err(NoParent),
        }
        Ok(())
    }

    /// Removes an attribute, if it exists.
    ///
    /// # Errors
    /// The parent is missing or of another type.
    pub fn remove(&self, item: &mut AttributeMap) -> Result<(), NoParent> {
        let Some((last, parent)) = self.parent_of(item)? else {
            item.remove(&self.root);
            return Ok(());
        };
        match (parent, last) {
            (Attribute::M(fields), PathStep::Name(name)) => drop(fields.remove(name)),
            (Attribute::L(values), PathStep::Index(index)) => {
                if *index < values.len() {
                    values.remove(*index);
                }
            }
            _ => return Err(NoParent),
        }
        Ok(())
    }

    /// Returns the last step and the attribute that it leads on from; `None` if the path is a name alone.
    fn parent_of<'a>(
        &self,
        item: &'a mut AttributeMap,
    ) -> Result<Option<(&PathStep, &'a mut Attribute)>, NoParent> {
        let Some((last, steps)) = self.steps.split_last() else { return Ok(None) };
        let root = item.get_mut(&self.root).ok_or(NoParent)?;
        let parent = steps.iter().try_fold(root, |value, step| match (value, step) {
            (Attribute::M(fields), PathStep::Name(name)) => fields.get_mut(name),
            (Attribute::L(values), PathStep::Index(index)) => values.get_mut(*index),
            _ => None,
        });
        Ok(Some((last, parent.ok_or(NoParent)?)))
    }

    /// Returns true if one of the paths leads to, or through, the other's attribute.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.root == other.root && self.steps.iter().zip(&other.steps).all(|(a, b)| a == b)
    }

    /// Returns true if one path takes for a map what the other takes for a list.
    #[must_use]
    pub fn conflicts_with(&self, other: &Self) -> bool {
        let fork = self.steps.iter().zip(&other.steps).find(|(a, b)| a != b);
        self.root == other.root
            && matches!(
                fork,
                Some((PathStep::Name(_), PathStep::Index(_)) | (PathStep::Index(_), PathStep::Name(_)))
            )
    }
}

impl fmt::Display for DocumentPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}", self.root)?;
        for step in &self.steps {
            match step {
                PathStep::Name(name) => write!(f, ", {name}")?,
                PathStep::Index(index) => write!(f, ", [{index}]")?,
            }
        }
        f.write_str("]")
    }
}

/// Returns the parts of an item that the paths lead to. The elements of a list move together.
#[must_use]
pub fn project(item: &AttributeMap, paths: &[DocumentPath]) -> AttributeMap {
    let mut tails: Vec<(&str, &[PathStep])> = Vec::new();
    tails.extend(paths.iter().map(|path| (path.root.as_str(), path.steps.as_slice())));
    let mut projected = AttributeMap::new();
    for (name, value) in item {
        let of_name: Vec<_> =
            tails.iter().filter(|(root, _)| root == name).map(|(_, steps)| *steps).collect();
        if let Some(part) = project_value(value, &of_name) {
            projected.insert(name.clone(), part);
        }
    }
    projected
}

fn project_value(value: &Attribute, tails: &[&[PathStep]]) -> Option<Attribute> {
    if tails.iter().any(|steps| steps.is_empty()) {
        return Some(value.clone());
    }
    let through = |step: &PathStep| -> Vec<&[PathStep]> {
        tails
            .iter()
            .filter_map(|steps| steps.split_first())
            .filter(|(first, _)| *first == step)
            .map(|(_, rest)| rest)
            .collect()
    };
    match value {
        Attribute::M(fields) => {
            let part = |(name, value): (&String, &Attribute)| {
                let part = project_value(value, &through(&PathStep::Name(name.clone())))?;
                Some((name.clone(), part))
            };
            Some(fields.iter().filter_map(part).collect())
                .filter(|part: &AttributeMap| !part.is_empty())
                .map(Attribute::M)
        }
        Attribute::L(values) => {
            let part = |(index, value)| project_value(value, &through(&PathStep::Index(index)));
            Some(values.iter().enumerate().filter_map(part).collect())
                .filter(|part: &Vec<_>| !part.is_empty())
                .map(Attribute::L)
        }
        _ => None,
    }
}
