"""The state of the running job, and the user's requests to interrupt it."""


class State:
    def __init__(self):
        self.begin()
        self.end()

    def begin(self, job="(unknown)"):
        self.skipped = self.interrupted = self.stopping_generation = False
        self.job, self.job_count, self.job_no = job, -1, 0
        self.processing_has_refined_job_count = False
        self.job_timestamp = "20260101000000"
        self.sampling_step = self.sampling_steps = 0
        self.current_latent = self.current_image = self.textinfo = None
        self.current_image_sampling_step = self.id_live_preview = 0

    def end(self):
        self.job, self.job_count = "", 0

    def nextjob(self):
        self.job_no += 1
        self.sampling_step = self.current_image_sampling_step = 0

    def interrupt(self):
        self.interrupted = True

    def skip(self):
        self.skipped = True

    def stop_generating(self):
        self.stopping_generation = True

    def set_current_image(self):
        pass

    do_set_current_image = set_current_image

    def assign_current_image(self, image):
        self.current_image = image
        self.id_live_preview += 1
