//! CaptureImage: creates an image of the old instance's EBS volumes, from which the twin starts. EC2 does not
//! reboot the instance, so the image holds the state that a power cut would leave. Instance-store volumes are
//! in no image.
//!
//! Records, before the call: that an image with the swap's name may exist; afterwards, its snapshots. Undone
//! by: deregistering the image and deleting its snapshots, which also happens once the twin serves.

use jiff::SignedDuration;
use spot_cloud::ec2::images::{self, ImageProgress};
use spot_cloud::tables::swaps::Entered;
use spot_cloud::{Kind, RegionClients};
use spot_domain::Reason;
use spot_domain::clock;
use spot_domain::swap::journal::{Journal, Stage};
use spot_domain::swap::lab::CapturedImage;

use spot_swap::Context;
use spot_swap::error::StepError;
use spot_swap::work::{Next, Work};

/// Asks for the image, or checks its progress.
///
/// # Errors
/// A call fails in a way that may pass: the step is repeated.
pub async fn run(context: &Context, work: &mut Work) -> Result<Next, StepError> {
    let Some(candidate) = work.queue.first() else { return Ok(work.next_candidate()) };
    let id = candidate.instance_id.clone();
    let mut journal = Journal::new(&id, work.lease.since, work.retirement, work.kind.clone());
    journal.stage = Stage::Capturing;
    if let Entered::Again(earlier) = context.swaps.enter(&work.lease, &mut journal).await? {
        journal = earlier;
    }
    let clients = context.clients(work).await?;
    let seconds = work.settings.image_timeout_seconds;
    work.waiting_since = Some(work.lease.since);
    let is_over = is_over(work, seconds);
    let Some(image) = images::captured_by(&clients.ec2, &journal.swap_id, &id).await? else {
        if is_over {
            let why = format!("no image exists after {seconds} s");
            return Ok(work.undo(Reason::ImageFailed, why));
        }
        // The rollback waits from this time until an image that the call may have made must be visible.
        journal.launching_since = clock::now();
        context.swaps.note(&work.lease, &journal).await?;
        if let Some(lab) = work.kind.lab_mut() {
            lab.captured_at = Some(journal.launching_since);
        }
        return ask(context, &clients, work, &mut journal).await;
    };
    match image.progress {
        ImageProgress::Available => {
            if let Some(lab) = work.kind.lab_mut() {
                lab.captured.note(&[CapturedImage { id: image.id.clone(), snapshots: image.snapshots }]);
            }
            Ok(Next::Proceed)
        }
        ImageProgress::Failed(why) => {
            Ok(work.undo(Reason::ImageFailed, format!("image {}: {why}", image.id)))
        }
        ImageProgress::Pending if is_over => {
            let why = format!("image {} is still pending after {seconds} s", image.id);
            Ok(work.undo(Reason::ImageFailed, why))
        }
        ImageProgress::Pending => Ok(Next::Wait),
    }
}

fn is_over(work: &Work, seconds: u32) -> bool {
    let age = clock::now().duration_since(work.lease.since);
    age >= SignedDuration::from_secs(i64::from(seconds))
}

async fn ask(
    context: &Context,
    clients: &RegionClients,
    work: &mut Work,
    journal: &mut Journal,
) -> Result<Next, StepError> {
    match images::capture(&clients.ec2, &journal.old, &journal.swap_id).await {
        Ok(image) => {
            tracing::info!(%image, of = %journal.old, "asked for an image");
            if let Some(lab) = work.kind.lab_mut() {
                lab.captured.images.insert(image);
            }
            // The end of the swap finds the snapshots by their image here, even if another has deregistered
            // the image.
            journal.kind.clone_from(&work.kind);
            context.swaps.note(&work.lease, journal).await?;
            Ok(Next::Wait)
        }
        // The image was asked for already, and is not visible yet.
        Err(error) if error.code == "InvalidAMIName.Duplicate" => Ok(Next::Wait),
        Err(error) if matches!(error.kind, Kind::Rejected | Kind::Quota) => {
            Ok(work.undo(Reason::ImageFailed, error.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}
