/** Moves the samples of all kinds of weights to the step of the slider, or of a picture in the filmstrip. */
export const SAMPLES_SCRIPT = `
function readySamples(root) {
  for (const part of root.querySelectorAll('.samples')) {
    const steps = part.dataset.steps.split(' ');
    const slider = part.querySelector('input');
    if (!slider) continue;
    const show = () => {
      const step = steps[slider.value];
      part.querySelector('output').textContent = step;
      for (const thumb of part.querySelectorAll('.film img')) {
        const isShown = thumb.dataset.step === step;
        thumb.parentNode.classList.toggle('current', isShown);
        const stage = [...part.querySelectorAll('.stage')].find((one) => one.dataset.weights === thumb.dataset.weights);
        if (isShown && stage) { stage.src = thumb.src; stage.alt = thumb.alt; }
      }
    };
    slider.addEventListener('input', show);
    for (const thumb of part.querySelectorAll('.film img')) {
      thumb.parentNode.addEventListener('click', () => { slider.value = steps.indexOf(thumb.dataset.step); show(); });
    }
    show();
  }
}
readySamples(document);
`

/** Replaces the page's contents whenever the server says that the run's folder changed. */
export const LIVE_SCRIPT = `
const events = new EventSource('events');
const say = (words, hasEnded) => {
  const live = document.querySelector('.live');
  live.textContent = words;
  live.classList.toggle('ended', hasEnded);
};
let loading = false, isStale = false;
const renew = async () => {
  if (loading) { isStale = true; return; }
  loading = true;
  try {
    const fresh = new DOMParser().parseFromString(await (await fetch('.')).text(), 'text/html');
    const open = [...document.querySelectorAll('details')].map((one) => one.open);
    const places = [...document.querySelectorAll('.samples input')].map((one) => one.value === one.max ? undefined : one.value);
    document.querySelector('main').replaceWith(document.adoptNode(fresh.querySelector('main')));
    document.title = fresh.title;
    document.querySelectorAll('details').forEach((one, i) => { one.open = open[i] ?? false; });
    document.querySelectorAll('.samples input').forEach((one, i) => { if (places[i] !== undefined) one.value = places[i]; });
    readySamples(document);
    say('live', false);
  } catch { say('the server does not answer', true); }
  loading = false;
  if (isStale) { isStale = false; renew(); }
};
let version;
events.addEventListener('message', ({ data }) => {
  if (data !== (version ?? document.body.dataset.version)) renew();
  version = data;
  say('live', false);
});
events.addEventListener('error', () => say('the server does not answer', true));
`
