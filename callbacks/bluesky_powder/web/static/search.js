// Searches for derived runs.

const list = (...names) => encodeURIComponent(JSON.stringify(names));

export const specs = () => `filter[specs][condition][include]=${list("PowderRun")}&filter[specs][condition][exclude]=${list()}`;
