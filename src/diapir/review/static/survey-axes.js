// Numbers along a survey's axes, and what a section is called.

export function makeAxes(survey) {
  const axes = {
    inline: { ...survey.inlines, unit: "inline" },
    crossline: { ...survey.crosslines, unit: "crossline" },
    sample: { first: survey.first_sample, step: survey.interval, count: survey.num_samples, unit: survey.unit },
  };
  const valueAt = (along, place) => Number((axes[along].first + axes[along].step * place).toFixed(2));
  const slice = survey.unit === "ms" ? "Time slice" : "Depth slice";
  return {
    of: (along) => axes[along],
    valueAt,
    last: (along) => axes[along].count - 1,
    middle: (along) => Math.floor(axes[along].count / 2),
    // In addresses a time slice goes by its place, for its time need not be a whole number.
    numberAt: (along, place) => (along === "sample" ? place : valueAt(along, place)),
    placeOf: (along, number) => (along === "sample" ? number : (number - axes[along].first) / axes[along].step),
    nearest: (along, value) => Math.round((value - axes[along].first) / axes[along].step),
    title(along, place) {
      const value = valueAt(along, place);
      return along === "sample" ? `${slice} ${value} ${survey.unit}` : `${along === "inline" ? "Inline" : "Crossline"} ${value}`;
    },
    // What its rows and its columns are.
    sides: (along) => ({ rows: along === "sample" ? "inline" : "sample", columns: along === "crossline" ? "inline" : "crossline" }),
    words: (along, place) => (along === "sample" ? `${valueAt(along, place)} ${survey.unit}` : `${along} ${valueAt(along, place)}`),
  };
}
