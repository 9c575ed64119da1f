"""What is said of an adaptation: tables for people, and a text in the weights' metadata."""

import json

from litemedsam_jax.adaptation.adapt import Adaptation
from litemedsam_jax.adaptation.scoring import mean
from litemedsam_jax.weights.adaptation_note import KEY


def metadata_of(adaptation: Adaptation, strategy: str) -> dict[str, str]:
    """The metadata of the weights file: a sentence for people, and the scores of each case."""
    kept = adaptation.anchor_after.get(adaptation.blend, {})
    scores = {
        "before": adaptation.estimate.before,
        "after": adaptation.estimate.after,
        "anchor_before": adaptation.anchor_before,
        "anchor_after": kept,
    }
    record = {
        "summary": summary(adaptation, strategy),
        "strategy": strategy,
        "postprocess": adaptation.estimate.step,
        "blend": adaptation.blend,
        **{key: {name: one._asdict() for name, one in of.items()} for key, of in scores.items()},
    }
    return {KEY: json.dumps(record)}


def summary(adaptation: Adaptation, strategy: str) -> str:
    """One sentence: mean scores before and after, of how many cases."""
    before, after = mean(adaptation.estimate.before), mean(adaptation.estimate.after)
    step = adaptation.estimate.step
    options = f"--strategy {strategy}" + (f" --postprocess {step}" if step else "")
    what = "adapted weights" if adaptation.blend else "weights as they were"
    text = (
        f"{what}: DSC of held-out cases {before.dsc:.3f} -> {after.dsc:.3f}, NSD {before.nsd:.3f} "
        f"-> {after.nsd:.3f} ({len(adaptation.estimate.before)} cases, {options})"
    )
    if kept := adaptation.anchor_after.get(adaptation.blend):
        text += (
            f"; DSC of other kinds {mean(adaptation.anchor_before).dsc:.3f} -> "
            f"{mean(kept).dsc:.3f} ({len(kept)} cases)"
        )
    return text


def table(adaptation: Adaptation) -> str:
    """A line a case: DSC and NSD before, after, difference; held-out ones, then other kinds."""
    kept = adaptation.anchor_after.get(adaptation.blend, {})
    rows = [
        ("held out", adaptation.estimate.before, adaptation.estimate.after),
        ("other kinds", adaptation.anchor_before if kept else {}, kept),
    ]
    width = max(len(name) for _, scores, _ in rows for name in [*scores, "other kinds, mean"])
    lines = [" " * width + "  DSC before  after  change  NSD before  after  change"]
    for title, before, after in rows:
        if not before:
            continue
        both = {name: (before[name], after[name]) for name in before}
        both[f"{title}, mean"] = (mean(before), mean(after))
        for name, scores in both.items():
            changes = [
                f"{old:12.3f}  {new:.3f}  {new - old:+.3f}"
                for old, new in zip(*scores, strict=True)
            ]
            lines.append(f"{name:<{width}}{''.join(changes)}")
    return "\n".join(lines)


def blend_table(adaptation: Adaptation) -> str:
    """A line for each share of what was learned: gain of held-out cases, loss of other kinds."""
    before, start = mean(adaptation.anchor_before).dsc, adaptation.blends[0.0]
    lines = []
    if step := adaptation.estimate.step:
        lines.append(
            f"with --postprocess {step}: DSC of held-out cases "
            f"{mean(adaptation.estimate.before).dsc:.3f} -> {start.dsc:.3f} with the weights as "
            "they are"
        )
    lines.append("share learned  held-out DSC  change    NSD  change  DSC of other kinds  change")
    for share, (dsc, nsd) in sorted(adaptation.blends.items()):
        line = f"{share:13.2f}         {dsc:.3f}  {dsc - start.dsc:+.3f}"
        line += f"  {nsd:.3f}  {nsd - start.nsd:+.3f}"
        kept = adaptation.anchor_after.get(share)
        if kept:
            line += f"               {mean(kept).dsc:.3f}  {mean(kept).dsc - before:+.3f}"
        elif share == 0 and adaptation.anchor_before:
            line += f"               {before:.3f}  {0:+.3f}"
        lines.append(line + ("  <- taken" if share == adaptation.blend != 0 else ""))
    return "\n".join(lines)
