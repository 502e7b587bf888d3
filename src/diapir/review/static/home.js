// Everything that was opened, as cards.
import { address, make, say } from "./shell.js";

const fixed = (value) => (typeof value === "number" ? value.toFixed(4) : "unknown");

export function showHome(host, sources) {
  host.className = "home";
  const runs = sources.runs.map((run) =>
    card(run.name, `#/tiles/${address(run.name)}`, "Tiles", [
      ["score", `${fixed(run.score)} (${run.interval_95.map(fixed).join(" to ")})`],
      ["recipe", run.recipe],
      ["what", run.score_kind],
      ["images", run.has_tiles ? "at hand" : "not at hand: name the prepared tiles beside the run"],
    ], `#/review/${address(run.name)}`));
  const surveys = sources.surveys.map((survey) =>
    card(survey.name, `#/survey/${address(survey.name)}`, "Sections", [
      ["inlines", survey.inlines],
      ["crosslines", survey.crosslines],
      ["samples", `${survey.num_samples} (${survey.unit})`],
      ["volumes", survey.volumes.join(", ")],
    ], survey.volumes.includes("amplitude") ? `#/review/${address(survey.name)}` : null));
  host.replaceChildren(
    make("h1", { text: "What was opened" }),
    ...section("Surveys", surveys),
    ...section("Runs", runs),
    ...(sources.models.length ? [make("h2", { text: "Models that answer" }), make("p", { class: "quiet", text: sources.models.join(", ") })] : []),
    ...(runs.length + surveys.length ? [] : [make("p", { text: "Nothing was opened that can be looked at: name runs and stores, diapir serve RUN STORE." })]),
  );
  const counted = (list, what) => `${list.length} ${what}${list.length === 1 ? "" : "s"}`;
  say(`Open: ${counted(runs, "run")} and ${counted(surveys, "survey")}.`);
  return { leave() {}, follow: () => false };
}

function section(title, cards) {
  return cards.length ? [make("h2", { text: title }), make("div", { class: "cards" }, ...cards)] : [];
}

function card(name, href, action, facts, review) {
  const list = make("dl", {}, ...facts.flatMap(([key, value]) => [make("dt", { text: key }), make("dd", { text: value })]));
  const links = make("p", { class: "actions" }, make("a", { class: "button", href, text: action }));
  if (review) links.append(make("a", { class: "button plain", href: review, text: "Review" }));
  return make("article", { class: "card" }, make("h3", {}, make("a", { href, text: name })), list, links);
}
